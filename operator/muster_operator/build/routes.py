"""How a coordinator is reached by name from outside: a route through a Gateway that passes TLS on as it is.

One address and one port for all jobs: the Gateway goes by the name that a client greets with (SNI), and opens nothing.
Gateway API 1.5 or newer, where TLSRoute is in the standard channel.
"""

from __future__ import annotations

from muster_operator.build.common import COORDINATOR, Context, manifest
from muster_operator.build.pods import without_nothing
from muster_operator.objects import Object


def build_route(context: Context) -> Object | None:
    """None where no Gateway is named, or nobody outside takes part, or the user has said where the coordinator is."""
    routes = context.routes
    if routes is None or not context.is_routed:
        return None
    parent = without_nothing(
        {"name": routes.gateway, "namespace": routes.namespace, "sectionName": routes.section or None}
    )
    spec = {
        "parentRefs": [parent],
        "hostnames": [context.routed_host],
        "rules": [{"backendRefs": [{"name": context.coordinator_name, "port": context.service_port}]}],
    }
    return manifest(context.job, "TLSRoute", context.coordinator_name, COORDINATOR, spec=spec)
