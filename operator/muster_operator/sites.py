"""What a job's status says of an External pool: of workers that are no pods of ours the coordinator and the lobby tell.

And what the lobby needs, to offer the job to the pool's site.
"""

from __future__ import annotations

from muster_operator.build.common import Context
from muster_operator.diagnosis import Trouble
from muster_operator.objects import Object, dig
from muster_operator.observed import Observed
from muster_spec.types import ResolvedPool
from muster_spec.wording import counted


def site_entry(seen: Observed, context: Context, pool: ResolvedPool, wanted: int, drift: str | None) -> Object:
    """Of `status.pools`. A worker is ready once all its clients are connected; which worker has which, nobody knows."""
    clients = pool.spec.clients
    entry: Object = {
        "name": pool.name,
        "type": pool.spec.type,
        "clients": clients,
        "workersWanted": wanted,
        "workersReady": min(wanted, _connected(seen, pool.name) * wanted // clients),
        "endpoint": context.outside,
    }
    image = pool.spec.template.image if pool.spec.template else None
    trouble = site_trouble(seen, pool) if wanted else None
    trouble = trouble or (Trouble("SpecDrift", drift) if drift else None)
    told = {"reason": trouble.reason, "message": trouble.message[:1024]} if trouble else {}
    return entry | ({"image": image} if image else {}) | told


def _connected(seen: Observed, pool: str) -> int:
    told = dig(seen.job, "status", "training", "clients", "pools") or ()
    return int(next((one.get("connected") or 0 for one in told if one.get("name") == pool), 0))


def site_trouble(seen: Observed, pool: ResolvedPool) -> Trouble | None:
    """What keeps a site's workers away, as far as the pool's object says."""
    live = seen.pools.get(pool.name)
    if live is None or live["metadata"]["uid"] != pool.uid:
        return Trouble("PoolGone", "the ClientPool that this job was started with is gone, and its credentials with it")
    if dig(live, "spec", "external", "revoked"):
        return Trouble("PoolRevoked", "spec.external.revoked: what its site comes with is turned away")
    told = dig(live, "status", "lobby") or {}
    refusal = next((one for one in told.get("refusals") or () if one.get("uid") == seen.uid), None)
    if refusal is not None:
        who = counted(int(refusal.get("workers") or 1), "worker")
        return Trouble("RefusedBySite", f"{who}: {refusal.get('reason')}: {refusal.get('message')}")
    if not told.get("workers") and not _connected(seen, pool.name):
        return Trouble("NoWorkersInLobby", "nobody of its site is in the lobby")
    return None
