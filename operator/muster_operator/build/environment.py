"""What the operator's own environment hands on to the processes of a job: how they log, and where traces go."""

from __future__ import annotations

from collections.abc import Mapping

from muster_operator.objects import Object

_NAMES = ("MUSTER_LOG_FORMAT",)
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
    containers = [_extended(container, environment) for container in template["spec"]["containers"]]
    pod = template["spec"] | {"containers": containers}
    return child | {"spec": child["spec"] | {"template": template | {"spec": pod}}}


def _extended(container: Object, environment: tuple[tuple[str, str], ...]) -> Object:
    own = container.get("env", [])
    named = {each["name"] for each in own}
    more = [{"name": name, "value": value} for name, value in environment if name not in named]
    return container | {"env": [*own, *more]}
