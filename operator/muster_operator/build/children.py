"""Everything that a job is made of, in the order in which it is made."""

from __future__ import annotations

from muster_operator.build.access import build_identity, build_network_policies
from muster_operator.build.common import Context
from muster_operator.build.coordinator import build_claim, build_config, build_coordinator, build_service
from muster_operator.build.workers import build_workers
from muster_operator.objects import Key, Object, key_of


def build_children(context: Context, text: str, ledger: dict[str, str]) -> dict[Key, Object]:
    """All children but the token, which isn't made from the job. Without a token there are no Jobs yet."""
    claim = build_claim(context)
    children = [
        build_config(context, text, ledger),
        *build_identity(context),
        *build_network_policies(context),
        build_service(context),
        *([claim] if claim else []),
    ]
    if context.token_id:
        children.append(build_coordinator(context))
        children += [build_workers(context, pool) for pool in context.job.pools]
    return {key_of(child): child for child in children}
