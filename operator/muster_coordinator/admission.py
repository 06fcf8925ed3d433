"""Who may make a call, by the certificate that came with it: whose it is, who made it, whether it still holds.

Asked at every call, and once a second for calls that are open (guard.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import grpc

from muster_coordinator.denylist import DenyList
from muster_coordinator.external import ExternalPool, ExternalPools, is_made_by
from muster_coordinator.ports import Clock
from muster_coordinator.refusals import Refused
from muster_wire.trust.certificate import Certificate
from muster_wire.trust.identity import Identity, Role

ENROL = "/muster.wire.v1.Federation/Enrol"
_HEALTH = "/grpc.health.v1.Health/"
_ATTEND = "/muster.wire.v1.Federation/Attend"
OPEN_TO_JOINERS = (ENROL, _HEALTH)
OPEN_TO = {  # beginnings of methods; workers may make every call but that of bridges
    Role.JOINER: OPEN_TO_JOINERS,
    Role.BRIDGE: (_ATTEND, _HEALTH),
}
_MAY = {Role.JOINER: "may only enrol", Role.BRIDGE: "may only attend"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call may not be made, or go on: for the caller, and for the counters."""

    code: grpc.StatusCode
    reason: str
    cause: Refused


class Admission(Protocol):
    """Decides on calls."""

    def refusal(self, certificate: Certificate, method: str) -> Refusal | None:
        """Why this certificate may not make, or go on with, a call of this method."""


def denied(reason: str, cause: Refused = Refused.WRONG_IDENTITY) -> Refusal:
    """For good: no newer certificate would be let in."""
    return Refusal(grpc.StatusCode.PERMISSION_DENIED, reason, cause)


def expiry(certificate: Certificate, now: float) -> Refusal | None:
    """Whether a newer certificate is needed."""
    expired = certificate.refused_because(now)
    return Refusal(grpc.StatusCode.UNAUTHENTICATED, expired, Refused.EXPIRED) if expired else None


@dataclass(frozen=True, slots=True)
class JobAdmission:
    """Of one job: its own workers, and those of its External pools, who may enrol.

    `authorities` gives who vouches for the job's own workers, now.
    """

    realm: str
    deny_list: DenyList
    clock: Clock
    authorities: Callable[[], bytes]
    external: ExternalPools

    def refusal(self, certificate: Certificate, method: str) -> Refusal | None:
        identity = certificate.identity
        pool = self._external_pool(identity)
        if self._is_revoked(certificate, pool):
            return denied(f"the certificate of {identity.uri} has been revoked", Refused.REVOKED)
        if identity.realm == self.realm:
            return self._own(certificate, method) or expiry(certificate, self.clock.unix())
        if pool is None or not pool.speaks_in(identity) or not self.external.vouches(pool, certificate):
            return denied(f"{identity.uri} is not for this job, which is {self.realm}")
        return _may_enrol(identity, method) or expiry(certificate, self.clock.unix())

    def _own(self, certificate: Certificate, method: str) -> Refusal | None:
        identity = certificate.identity
        if self.external and not is_made_by(certificate.pem, self.authorities()):
            return denied(f"{identity.uri}: another authority than this job's has made its certificate")
        if identity.role in OPEN_TO and not method.startswith(OPEN_TO[identity.role]):
            return denied(f"{identity.uri} {_MAY[identity.role]}")
        if identity.role is Role.WORKER and method == _ATTEND:
            return denied(f"{identity.uri} is a worker's; only a bridge attends")
        return None

    def _external_pool(self, identity: Identity) -> ExternalPool | None:
        """The External pool that it speaks for, or that it came from."""
        if identity.realm == self.realm:
            return self.external.of_name(identity.pool)
        return self.external.of_realm(identity.realm)

    def _is_revoked(self, certificate: Certificate, pool: ExternalPool | None) -> bool:
        if pool is None:
            return self.deny_list.refuses(certificate)
        also = Identity(Role.WORKER, pool.realm, pool.name)
        return self.deny_list.refuses(certificate, also) or self.external.standing(pool.name).refuses(certificate)


def _may_enrol(identity: Identity, method: str) -> Refusal | None:
    return None if method.startswith(OPEN_TO_JOINERS) else denied(f"{identity.uri} may only enrol")
