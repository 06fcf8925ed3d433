"""Attend: what the bridge of a pool knows of queues goes in; whom the coordinator hears from, and what workers log,
comes out. The same call under `muster run` and in a pod, so both know as much.

A bridge speaks for its own pool only, says the whole of it each time, and is believed about nothing but who may be
there: the worst that a bad one can do is that nobody of its pool is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio

from muster_coordinator.allocations import Allocation
from muster_coordinator.events import QueueSeen
from muster_coordinator.guard import Peers
from muster_coordinator.inbox import Inbox
from muster_coordinator.lobby import Lobby
from muster_coordinator.logtails import LogTails
from muster_coordinator.ports import Clock
from muster_coordinator.refusals import Refusals, Refused
from muster_spec.clients import ClientId, client_id
from muster_wire.errors import VersionError
from muster_wire.trust.identity import Role
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.version import Version, negotiate

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

SETTLED_S = 30.0  # after which workers that live have found a coordinator that began anew
LONGEST_MS = 10 * 366 * 86_400_000  # no job is submitted for longer than ten years


@dataclass(frozen=True, slots=True)
class Attendance:
    """One method: see the .proto. `pools` are those that have a bridge, with how many clients each has."""

    peers: Peers
    pools: Mapping[str, int]
    lobby: Lobby
    tails: LogTails
    inbox: Inbox
    clock: Clock
    refusals: Refusals
    began: float

    async def attend(self, request: pb.AttendRequest, context: Context) -> pb.AttendReply:
        """Take in what a bridge says of its pool, whole or not at all."""
        pool = await self._pool(request, context)
        problem = problem_with(request, self.pools[pool])
        if problem:
            await self._refuse(context, grpc.StatusCode.INVALID_ARGUMENT, problem)
        version = await self._agree(request, context)
        now = self.clock.now()
        self.inbox.post(QueueSeen(pool, allocations_of(request, now)))
        reading = self.tails.read(pool, request.log, request.log_read)
        return pb.AttendReply(
            version=pb.Version(major=version.major, minor=version.minor),
            present=self.lobby.present(pool, self.pools[pool]),
            complete=now >= self.began + SETTLED_S,
            fruitless=self.lobby.fruitless(pool, self.pools[pool]),
            log=reading.log,
            log_read=reading.read,
            lines=[pb.LogLine(source=line.source, text=line.text) for line in reading.lines],
        )

    async def _pool(self, request: pb.AttendRequest, context: Context) -> str:
        """The pool that the caller is the bridge of."""
        caller = self.peers.certificate(context)
        if caller is None or caller.identity.role is not Role.BRIDGE:
            words = "a bridge attends with a certificate of its own, over mutual TLS"
            await self._refuse(context, grpc.StatusCode.PERMISSION_DENIED, words)
        pool = caller.identity.pool
        if request.pool != pool:
            words = f"{caller.identity.uri} doesn't speak for {request.pool[:64]!a}"
            await self._refuse(context, grpc.StatusCode.PERMISSION_DENIED, words)
        if pool not in self.pools:
            await self._refuse(context, grpc.StatusCode.FAILED_PRECONDITION, f"this job's pool {pool} has no bridge")
        return pool

    async def _agree(self, request: pb.AttendRequest, context: Context) -> Version:
        try:
            return negotiate(Version(request.version.major, request.version.minor))
        except VersionError as error:
            self.refusals.count(Refused.WRONG_VERSION)
            return await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    async def _refuse(self, context: Context, code: grpc.StatusCode, reason: str) -> NoReturn:
        self.refusals.count(Refused.ATTENDANCE)
        await context.abort(code, reason)


def problem_with(request: pb.AttendRequest, clients: int) -> str | None:
    """What can't be so."""
    indices = [index for allocation in request.allocations for index in allocation.indices]
    times = (time for each in request.allocations for time in (each.starts_in_ms, each.ends_in_ms, each.lasts_ms))
    known = {pb.Allocation.STATE_QUEUED, pb.Allocation.STATE_RUNNING}
    checks: tuple[tuple[bool, str], ...] = (
        (len(request.allocations) <= clients, f"a pool of {clients} clients has no more allocations than those"),
        (len(set(indices)) == len(indices), "a client is in one allocation at a time"),
        (max(indices, default=0) < clients, f"the pool has clients 0 to {clients - 1}"),
        (all(each.state in known for each in request.allocations), "a client is queued or running"),
        (max(times, default=0) <= LONGEST_MS, "no batch system plans for more than ten years"),
        (len(request.log) <= 64, "the name of a log is short"),
    )
    return next((problem for fine, problem in checks if not fine), None)


def allocations_of(request: pb.AttendRequest, now: float) -> dict[ClientId, Allocation]:
    """By client, on the coordinator's clock."""
    return {
        client_id(request.pool, index): _allocation(each, now) for each in request.allocations for index in each.indices
    }


def _allocation(message: pb.Allocation, now: float) -> Allocation:
    return Allocation(
        is_running=message.state == pb.Allocation.STATE_RUNNING,
        starts=now + message.starts_in_ms / 1000 if message.starts_in_ms else None,
        ends=now + message.ends_in_ms / 1000 if message.ends_in_ms else None,
        lasts_s=message.lasts_ms / 1000 if message.lasts_ms else None,
    )
