"""Everything that a job is made of, in the order in which it is made."""

from __future__ import annotations

from muster_operator.build.access import build_identity, build_network_policies
from muster_operator.build.bridge import build_bridge
from muster_operator.build.code import build_code
from muster_operator.build.common import Context
from muster_operator.build.coordinator import build_claim, build_coordinator, build_service
from muster_operator.build.environment import with_environment
from muster_operator.build.memory import build_memory
from muster_operator.build.routes import build_route
from muster_operator.build.workers import build_workers
from muster_operator.objects import Key, Object, key_of
from muster_spec.types import ResolvedPool


def build_children(context: Context, text: str, ledger: dict[str, str]) -> dict[Key, Object]:
    """All children but the Secrets, which credentials.py plans. Without an authority there are no Jobs yet."""
    claim, code, route = build_claim(context), build_code(context), build_route(context)
    children = [
        *build_memory(context, text, ledger),
        *build_identity(context),
        *build_network_policies(context),
        build_service(context),
        *([route] if route else []),
        *([claim] if claim else []),
        *([code] if code else []),
    ]
    if context.authority_id:
        children.append(build_coordinator(context))
        children += [job for pool in context.job.pools for job in _workers(context, pool)]
    return {key_of(child): with_environment(child, context.environment) for child in children}


def _workers(context: Context, pool: ResolvedPool) -> list[Object]:
    """What makes a pool work: its workers, or what submits them elsewhere; nothing where its site does that."""
    match pool.spec.type:
        case "Slurm":
            return [build_bridge(context, pool)]
        case "External":
            return []
    return build_workers(context, pool)
