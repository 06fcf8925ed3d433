"""Measure: workers find out how far away and how fast this coordinator is, and say what they can do.

A call carries bytes of which only the number counts; how long it took is the worker's to see. Bounded in every way: in
size, in calls of one session, and in calls at one time, so that nobody's training waits for somebody's measuring. The
bytes are counted with those of models and updates, and are few beside them: a job in which nothing goes by profiles
wants none, and others say how many a survey should take. What is said is a claim, held against bounds and then used
where nothing better is known of a client.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NoReturn, TypeAlias

import grpc
import grpc.aio

from muster_coordinator.compression import search_of
from muster_coordinator.events import ClientsProfiled
from muster_coordinator.inbox import Inbox
from muster_coordinator.records import ClientProfile
from muster_coordinator.refusals import Refused
from muster_coordinator.sessions import Session
from muster_coordinator.tallies import Tallies
from muster_spec.types import ResolvedJob
from muster_wire.v1 import federation_pb2 as pb

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

MOST_BYTES: Final = 2**20  # of one call, each way
MOST_CALLS: Final = 1000  # of one session: some days of measuring now and then
AT_ONCE: Final = 4  # calls with many bytes
FEW_BYTES: Final = 4096  # fewer are no burden; of a survey, while nobody knows how large the model is
LEAST_BYTES: Final = 1024  # of a survey: fewer say nothing
SHARE: Final = 64  # of a model in float32, the part that a survey takes each way
_BOUNDS: Final = {
    "flops": (1e3, 1e18),
    "memory_bytes": (1.0, 2.0**50),
    "latency_s": (0.0, 3600.0),
    "up_bytes_per_s": (1.0, 1e13),
    "down_bytes_per_s": (1.0, 1e13),
}


def needs_profiles(job: ResolvedJob) -> bool:
    """Whether anything in this job, or in the next one on its pools, goes by what workers measure of themselves."""
    spec = job.spec
    return (
        spec.selection.type in {"Adaptive", "Oort", "Cost"}
        or spec.rounds.deadline_control.type == "Adaptive"
        or spec.selection.memory is not None
        or spec.compression.preset == "auto"
        or search_of(spec.compression) is not None
        or spec.rounds.stragglers.type in {"Partial", "LayerWise"}  # time is kept for updates to come in
        or spec.local.sampling.type == "FedBalancer"
    )


def survey_bytes(model_bytes: int) -> int:
    """That one survey should take each way, beside a model of so many bytes; 0: there is none yet."""
    return min(max(model_bytes // SHARE, LEAST_BYTES), MOST_BYTES) if model_bytes else FEW_BYTES


class Surveying:
    """One method: see the .proto. Lives on the server's loop. `model_bytes` is asked at every call; None: profiles are
    of no use in this job.
    """

    def __init__(self, inbox: Inbox, tallies: Tallies, model_bytes: Callable[[], int] | None) -> None:
        self._inbox = inbox
        self._meter = tallies.meter
        self._refusals = tallies.refusals
        self._model_bytes = model_bytes
        self._calls: Counter[str] = Counter()
        self._under_way = 0

    async def measure(self, request: pb.MeasureRequest, session: Session, context: Context) -> pb.MeasureReply:
        """Send back what is wanted, and take in what has been found out."""
        self._meter.add_up(request.ByteSize())
        if self._model_bytes is None:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "nothing in this job goes by it")
        if max(len(request.payload), request.wanted) > MOST_BYTES:
            await self._refuse(context, f"at most {MOST_BYTES} bytes are measured with")
        is_large = len(request.payload) + request.wanted > FEW_BYTES
        if self._calls[session.id] >= MOST_CALLS or (is_large and self._under_way >= AT_ONCE):
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "others are measuring: not now")
        self._calls[session.id] += 1
        if request.HasField("profile"):
            await self._take(request.profile, session, context)
        self._under_way += is_large
        done: Any = partial(self._done, is_large)
        context.add_done_callback(done)
        reply = pb.MeasureReply(payload=bytes(request.wanted), most=survey_bytes(self._model_bytes()))
        self._meter.add_down(reply.ByteSize())
        return reply

    def _done(self, is_large: bool, _context: object) -> None:
        self._under_way -= is_large

    async def _take(self, message: pb.Profile, session: Session, context: Context) -> None:
        profile = profile_of(message)
        if profile is None:
            await self._refuse(context, "no machine is like that")
        self._inbox.post(ClientsProfiled(session.worker, tuple(session.clients), profile))

    async def _refuse(self, context: Context, reason: str) -> NoReturn:
        self._refusals.count(Refused.MALFORMED)
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)


def profile_of(message: pb.Profile) -> ClientProfile | None:
    """What a worker says of itself; None if it can't be so."""
    values = {name: float(getattr(message, name)) for name in _BOUNDS}
    is_possible = all(
        math.isfinite(value) and _BOUNDS[name][0] <= value <= _BOUNDS[name][1] for name, value in values.items()
    )
    if not is_possible:
        return None
    return ClientProfile(
        flops=message.flops,
        memory_bytes=message.memory_bytes,
        latency_s=message.latency_s,
        up_bytes_per_s=message.up_bytes_per_s,
        down_bytes_per_s=message.down_bytes_per_s,
    )
