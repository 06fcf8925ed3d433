"""The calls of the lobby: enrol, enter, tell. Each has passed the guard, which knows whose certificate it came with.

An idle worker is a coroutine that waits for its seat's news.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio

from muster_coordinator.enrolment import certify
from muster_coordinator.external import AuthorityFile
from muster_coordinator.guard import Guard
from muster_coordinator.ports import Clock
from muster_coordinator.refusals import Refusals, Refused
from muster_lobby.attendance import Attendance, Seat, TooManyError
from muster_lobby.claims import problem_with_worker, standing_from
from muster_lobby.keys import Keys
from muster_lobby.offers import Offer
from muster_lobby.world import World
from muster_operator.errors import ApiError
from muster_wire.errors import TrustError, VersionError
from muster_wire.v1 import federation_pb2 as federation
from muster_wire.v1 import lobby_pb2 as pb
from muster_wire.version import Version, negotiate

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

SERVICE = "muster.wire.v1.Lobby"
ENROLLING = "muster.wire.v1.Federation"
Code = grpc.StatusCode


@dataclass(frozen=True, slots=True)
class Service:
    """What the calls work with. `own` is who vouches for the lobby itself."""

    world: World
    attendance: Attendance
    guard: Guard
    keys: Keys
    own: AuthorityFile
    clock: Clock
    refusals: Refusals
    enrolled: Callable[[], None]  # told of each certificate


class Lobby:
    """One method a call of lobby.proto; and Enrol, which is the same call as a coordinator's."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """The services as grpc wants them."""
        unary, down = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        enrol = unary(self.enrol, federation.EnrolRequest.FromString, federation.EnrolReply.SerializeToString)
        enter = down(self.enter, pb.EnterRequest.FromString, pb.JobOffers.SerializeToString)
        tell = unary(self.tell, pb.TellRequest.FromString, pb.TellReply.SerializeToString)
        return (
            grpc.method_handlers_generic_handler(ENROLLING, {"Enrol": enrol}),
            grpc.method_handlers_generic_handler(SERVICE, {"Enter": enter, "Tell": tell}),
        )

    async def enrol(self, request: federation.EnrolRequest, context: Context) -> federation.EnrolReply:
        """Certify the caller's key with its pool's authority, which is read for this one request."""
        service = self._service
        caller = service.guard.certificate(context)
        pool = service.world.pool(caller.identity.realm)
        if pool is None:
            return await self._refuse(Refused.ENROLMENT, context, Code.UNAVAILABLE, "the pool is gone: try later")
        try:
            authority = await service.keys.authority(pool)
            now = service.clock.unix()
            chain = certify(authority, pool.uid, caller, request.request, now, pool.certificate_s)
        except TrustError as error:
            return await self._refuse(Refused.ENROLMENT, context, Code.INVALID_ARGUMENT, error.reason)
        except ApiError as error:
            words = f"the authority of pool {pool.name} can't be had now: {error}"
            return await self._refuse(Refused.ENROLMENT, context, Code.UNAVAILABLE, words)
        service.enrolled()
        return federation.EnrolReply(chain=chain, authorities=service.own.current())

    async def enter(self, request: pb.EnterRequest, context: Context) -> None:
        """The offers, whole, as often as they change, until the stream ends or a newer one takes its place."""
        version = await self._agree(request, context)
        seat = await self._sit(request, context)
        try:
            while not seat.is_taken:
                seat.news.clear()
                offers = self._service.world.offers(seat.pool)
                if offers != seat.offered:
                    seat.offered = offers
                    await context.write(_message(version, offers))
                await seat.news.wait()
        finally:
            self._service.attendance.leave(seat)
        await context.abort(Code.ABORTED, "a newer stream of this worker has taken its place")

    async def _agree(self, request: pb.EnterRequest, context: Context) -> Version:
        try:
            return negotiate(Version(request.version.major, request.version.minor))
        except VersionError as error:
            return await self._refuse(Refused.WRONG_VERSION, context, Code.FAILED_PRECONDITION, error.reason)

    async def _sit(self, request: pb.EnterRequest, context: Context) -> Seat:
        if problem := problem_with_worker(request.worker):
            return await self._refuse(Refused.JOIN, context, Code.FAILED_PRECONDITION, problem)
        pool = self._service.guard.certificate(context).identity.realm
        try:
            return self._service.attendance.sit(pool, request.worker, standing_from(request.standing))
        except TooManyError:
            words = "as many workers of this pool are here as there may be: try later"
            return await self._refuse(Refused.JOIN, context, Code.RESOURCE_EXHAUSTED, words)

    async def tell(self, request: pb.TellRequest, context: Context) -> pb.TellReply:
        """Remember what a worker does, for as long as its stream is open."""
        pool = self._service.guard.certificate(context).identity.realm
        seat = self._service.attendance.find(pool, request.worker)
        if seat is None:
            return await self._refuse(Refused.NO_SESSION, context, Code.NOT_FOUND, "enter first")
        seat.standing = standing_from(request.standing)
        return pb.TellReply()

    async def _refuse(self, cause: Refused, context: Context, code: grpc.StatusCode, reason: str) -> NoReturn:
        self._service.refusals.count(cause)
        await context.abort(code, reason)


def _message(version: Version, offers: tuple[Offer, ...]) -> pb.JobOffers:
    return pb.JobOffers(
        version=federation.Version(major=version.major, minor=version.minor),
        offers=[
            pb.JobOffer(
                job=offer.job,
                namespace=offer.namespace,
                name=offer.name,
                pool=offer.pool,
                coordinator=offer.coordinator,
                authorities=offer.authorities.encode(),
                terms=offer.terms,
                capacity=offer.capacity,
                share=offer.share,
            )
            for offer in offers
        ],
    )
