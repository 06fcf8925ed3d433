"""Enrol: a worker's own key goes in, a short-lived certificate comes out, for the identity that the caller came with.

What the request says of names is ignored: a caller gets the identity it has proven, never one that it asks for. Each
certificate remembers the join credential it came from, so that revoking that one revokes all that came of it. A worker
of an External pool comes with a certificate of the pool's realm, and gets one of this job's for the same clients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import grpc
import grpc.aio

from muster_coordinator.guard import Peers
from muster_coordinator.ports import Clock
from muster_coordinator.refusals import Refusals, Refused
from muster_wire.errors import TrustError
from muster_wire.trust.authority import Authority
from muster_wire.trust.certificate import Certificate
from muster_wire.trust.identity import Role
from muster_wire.trust.keys import read_request
from muster_wire.v1 import federation_pb2 as pb

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One method: see the .proto. Without an authority nobody can enrol here."""

    realm: str
    peers: Peers
    clock: Clock
    refusals: Refusals
    authority: Authority | None
    valid_s: float

    async def enrol(self, request: pb.EnrolRequest, context: Context) -> pb.EnrolReply:
        """Certify the caller's key."""
        caller = self.peers.certificate(context)
        if self.authority is None or caller is None:
            self.refusals.count(Refused.ENROLMENT)
            return await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                "this coordinator certifies no keys: start it with --enrol-ca and --enrol-key, or give workers their "
                "certificates as files",
            )
        try:
            chain = certify(self.authority, self.realm, caller, request.request, self.clock.unix(), self.valid_s)
        except TrustError as error:
            self.refusals.count(Refused.ENROLMENT)
            return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.reason)
        return pb.EnrolReply(chain=chain, authorities=self.authority.pem)


def certify(authority: Authority, realm: str, caller: Certificate, request: bytes, now: float, valid_s: float) -> bytes:
    """A chain in PEM, for the caller as a worker of this realm. Raises TrustError for a request that isn't one."""
    key = read_request(request)
    identity = replace(caller.identity.as_worker(), realm=realm)
    origin = caller.serial if caller.identity.role is Role.JOINER else caller.origin
    return authority.certify(key, identity, now, valid_s, origin)
