"""What the operator's own environment hands on to a job: how it logs, where traces go, and the proxy on the way out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from muster_operator.build.common import COORDINATOR
from muster_operator.objects import Object

_PROXY = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"})  # of coordinators: pools say which their workers have
_NAMES = frozenset({"MUSTER_LOG_FORMAT"}) | _PROXY
_PREFIX = "OTEL_"


def handed_on(environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The variables that jobs get, too. What an operator calls itself in traces is not theirs."""
    return tuple(
        (name, value)
        for name, value in sorted(environment.items())
        if value and (name in _NAMES or name.startswith(_PREFIX)) and name != "OTEL_SERVICE_NAME"
    )


def with_environment(child: Object, environment: tuple[tuple[str, str], ...]) -> Object:
    """A Job whose containers have these variables, but for those that they set themselves; any other child as it is."""
    if child["kind"] != "Job" or not environment:
        return child
    template = child["spec"]["template"]
    containers = [
        _extended(each, [one for one in environment if each["name"] == COORDINATOR or one[0] not in _PROXY])
        for each in template["spec"]["containers"]
    ]
    pod = template["spec"] | {"containers": containers}
    return child | {"spec": child["spec"] | {"template": template | {"spec": pod}}}


def _extended(container: Object, environment: Sequence[tuple[str, str]]) -> Object:
    own = container.get("env", [])
    named = {each["name"] for each in own}
    more = [{"name": name, "value": value} for name, value in environment if name not in named]
    return container | {"env": [*own, *more]}
