"""Who may come in: workers of External pools, each vouched for by its own pool's authority. The coordinators' own rules
(muster_coordinator.guard) stand before every call; what they hold a certificate against is the world as it is now.
"""

from __future__ import annotations

import grpc

from muster_coordinator.admission import OPEN_TO_JOINERS, Refusal, denied, expiry
from muster_coordinator.external import AuthorityFile, is_made_by
from muster_coordinator.ports import Clock
from muster_coordinator.refusals import Refused
from muster_lobby.offers import Pool
from muster_lobby.world import World
from muster_wire.trust.certificate import Certificate
from muster_wire.trust.identity import Role


class LobbyAdmission:
    """Of all pools that there are."""

    def __init__(self, world: World, clock: Clock) -> None:
        self._world = world
        self._clock = clock

    def refusal(self, certificate: Certificate, method: str) -> Refusal | None:
        """Why this certificate may not make, or go on with, a call of this method."""
        identity = certificate.identity
        pool = self._world.pool(identity.realm)
        if pool is None or pool.name != identity.pool:
            return denied(f"{identity.uri} is of no External pool that there is here")
        if pool.standing.refuses(certificate):
            return denied(f"the certificate of {identity.uri} has been revoked: ask for a new bundle", Refused.REVOKED)
        return self._of_pool(pool, certificate, method) or expiry(certificate, self._clock.unix())

    def _of_pool(self, pool: Pool, certificate: Certificate, method: str) -> Refusal | None:
        uri = certificate.identity.uri
        if not pool.authority:
            later = f"the pool {pool.name} has no authority yet, or again: try later"
            return Refusal(grpc.StatusCode.UNAVAILABLE, later, Refused.ENROLMENT)
        if not is_made_by(certificate.pem, pool.authority.encode()):
            return denied(f"{uri}: another authority than the pool's has made its certificate: ask for a new bundle")
        is_worker = certificate.identity.role is Role.WORKER
        return None if is_worker or method.startswith(OPEN_TO_JOINERS) else denied(f"{uri} may only enrol")


class PoolRoots:
    """Who vouches for those who come: the pools' authorities, as they are now.

    TLS wants at least one, so the lobby's own is among them; it has certified no worker, and admission asks whose it
    is.
    """

    def __init__(self, world: World, own: AuthorityFile) -> None:
        self._world = world
        self._own = own
        self._revision = -1

    def changed(self) -> bool:
        before, self._revision = self._revision, self._world.revision
        return before != self._revision

    def read(self) -> bytes:
        return self._own.current() + b"".join(pool.authority.encode() for pool in self._world.pools())
