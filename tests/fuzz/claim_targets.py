"""What a worker claims: who it is and for whom it acts, what it measured, of its training and of its machine.

Claims that are believed end in records, which a coordinator has to be able to read again, and in sums with what honest
clients say, which have to stay numbers.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NoReturn

from google.protobuf.message import DecodeError

from muster_coordinator import evaluation
from muster_coordinator.assignments import client_of, evaluation_id
from muster_coordinator.claims import (
    MAX_REASON,
    held_by,
    losses_of,
    one_line,
    problem_with_counts,
    problem_with_join,
    problem_with_numbers,
    wish_of,
)
from muster_coordinator.durable import seal, unseal
from muster_coordinator.events import ClientsProfiled
from muster_coordinator.importance import Importance
from muster_coordinator.inbox import Inbox
from muster_coordinator.instructions import Scope
from muster_coordinator.meter import ByteMeter
from muster_coordinator.records import AssignmentId, EvaluationRecord, RoundCommit, UsedUpdate
from muster_coordinator.refusals import Refusals
from muster_coordinator.rounds import mean_metrics
from muster_coordinator.sessions import JoinRefusedError, JoinWish, Patience, SessionTable
from muster_coordinator.state import Evaluating
from muster_coordinator.strategies.fedavg import FedAvg
from muster_coordinator.strategies.fednova import FedNova
from muster_coordinator.strategies.qfedavg import QFedAvg
from muster_coordinator.strategies.scaffold import Scaffold
from muster_coordinator.surveying import MOST_BYTES, Surveying
from muster_coordinator.tallies import Tallies
from muster_coordinator.weighing import Weighing
from muster_spec.clients import ClientId
from muster_spec.work import BASE_LOSS, GRADIENT_VARIANCE, LOSS
from muster_wire.errors import VersionError
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.version import CURRENT, Version, negotiate

POOLS: Final = MappingProxyType({"p": 4, "hpc": 2})
HONEST, OTHER = ClientId("p/0"), ClientId("p/1")
MIXED: Final = (("Examples", 1.0), ("Loss", 2.0), ("Variance", 0.5))
WEIGHINGS: Final = tuple(
    Weighing(Importance(parts, share), strategy)
    for parts in (*(((kind, 1.0),) for kind in ("Examples", "Uniform", "Loss", "Variance")), MIXED)
    for share in (None, 0.6)
    for strategy in (FedAvg(), FedNova(momentum=0.9), QFedAvg(q=2.0), Scaffold())
)


# --- joining ----------------------------------------------------------------------------------------------------------


def join(data: bytes) -> None:
    """Whoever is let in acts for clients that there are, and for nobody else's; and can come again."""
    try:
        request = pb.JoinRequest.FromString(data)
    except DecodeError:
        return
    if problem_with_join(request) is not None:
        return
    try:
        version = negotiate(Version(request.version.major, request.version.minor))
    except VersionError:
        return
    wish = wish_of(request, None, version)
    assert all(isinstance(client_of(assignment), str) for assignment in held_by(request))
    table = SessionTable(POOLS, Patience())
    table.join(JoinWish("first", "p", capacity=3, leases_move=True), "1", 0.0)
    for number in (2, 3):
        _let_in(table, wish, str(number))
    for now in (1.0, 100.0):
        table.balance(now)
        table.expire(now)


def _let_in(table: SessionTable, wish: JoinWish, name: str) -> None:
    try:
        session = table.join(wish, name, float(name)).session
    except JoinRefusedError:
        return
    theirs = {f"{wish.pool}/{index}" for index in range(POOLS[wish.pool])}
    assert set(session.reserved) <= theirs
    assert not wish.capacity or len(session.reserved) <= wish.capacity
    held = [client for each in table for client in each.reserved]
    assert len(held) == len(set(held))
    assert all(table.holder(client) is session for client in session.clients)


def joins() -> Iterator[bytes]:
    version = pb.Version(major=CURRENT.major, minor=CURRENT.minor)
    yield pb.JoinRequest(version=version, worker="w", pool="p", indices=[0, 1]).SerializeToString()
    wish = pb.JoinRequest(version=version, worker="first", pool="p", indices=[2], capacity=3, share=1)
    wish.leases_move = wish.confirms_end = True
    wish.held_assignments.extend(["1.0.p/2", "", "..", "1.0.p/\u0661"])
    yield wish.SerializeToString()
    yield pb.JoinRequest(version=version, worker="w", pool="hpc", capacity=9, device="cpu").SerializeToString()


# --- what was measured ------------------------------------------------------------------------------------------------


def report(data: bytes) -> None:
    """A result that is believed makes a record, with what another client measured, that can be read again."""
    try:
        request = pb.ReportRequest.FromString(data)
    except DecodeError:
        return
    words = one_line(request.error)
    assert len(words) <= MAX_REASON
    assert words.isprintable()
    client_of(AssignmentId(request.assignment))
    if problem_with_counts(request.examples, dict(request.metrics)):
        return
    phase = Evaluating(1, "0" * 32, 10.0, restored=False, waiting=frozenset({HONEST, OTHER}), central_wanted=False)
    honest = evaluation.scores_of(10, {"accuracy": 0.5, "loss": 1.5})
    phase = evaluation.report_local(phase, HONEST, honest)
    phase = evaluation.report_local(phase, OTHER, evaluation.scores_of(request.examples, dict(request.metrics)))
    record = evaluation.record_of(phase)
    assert unseal(seal(record), EvaluationRecord) == record
    assert record.federated is not None
    assert all(map(math.isfinite, record.federated.metrics.values()))


def reports() -> Iterator[bytes]:
    name = evaluation_id(1, Scope.LOCAL, OTHER)
    for value in (0.5, math.nan, -1.7e308):
        metrics = {"loss": value, "accuracy": 0.25}
        yield pb.ReportRequest(session="s", assignment=name, examples=2**40, metrics=metrics).SerializeToString()
    yield pb.ReportRequest(session="s", assignment=name, error="no \x1b[2J\n data").SerializeToString()


def offer(data: bytes) -> None:
    """An update that is believed has a weight in every strategy's sum, and a commit that can be read again."""
    try:
        message = pb.Offer.FromString(data)
    except DecodeError:
        return
    metrics = dict(message.metrics)
    if problem_with_numbers(message.examples, metrics) or message.examples < 1:
        return
    honest = _used(pb.Offer(examples=10, steps=5), HONEST, {LOSS: 0.5, BASE_LOSS: 0.7, GRADIENT_VARIANCE: 0.1})
    theirs = _used(message, OTHER, metrics)
    for weighing in WEIGHINGS:
        if weighing.problem(message.steps, metrics):
            continue
        used = weighing.weigh((honest, theirs))
        assert all(0 < each.weight < math.inf for each in used), weighing
        assert 0 < weighing.scale(used) < math.inf, weighing
        assert all(map(math.isfinite, mean_metrics(used).values()))
    commit = commit_of((honest, theirs))
    assert unseal(seal(commit), RoundCommit) == commit


def _used(message: pb.Offer, client: ClientId, metrics: Mapping[str, float]) -> UsedUpdate:
    return UsedUpdate(
        client=client,
        assignment=AssignmentId(f"1.0.{client}"),
        round=1,
        examples=message.examples,
        weight=1.0,
        steps=message.steps,
        metrics=metrics,
        train_s=message.train_ms / 1000,
        losses=losses_of(message),
        norm=1.0,
    )


def commit_of(used: tuple[UsedUpdate, ...]) -> RoundCommit:
    """A round's record with these updates in it."""
    return RoundCommit(
        round=1,
        attempt=0,
        epoch=1,
        base="0" * 32,
        model="1" * 32,
        used=used,
        failed={},
        failed_attempts=0,
        started_s=1.0,
        seconds=2.0,
        bytes_up=3,
        bytes_down=4,
    )


def some_claims() -> Iterator[bytes]:
    losses = ((0.5, 0.7), (-1e300, 1.7e308), (0.0, 0.0))
    for (loss, before), steps in itertools.product(losses, (1, 2**32 - 1)):
        metrics = {LOSS: loss, BASE_LOSS: before, GRADIENT_VARIANCE: 1e-300}
        probe = pb.Probe(before=before, after=loss, fewer=1.0)
        message = pb.Offer(session="s", assignment="1.0.p/1", examples=2**40, steps=steps, metrics=metrics, probe=probe)
        yield message.SerializeToString()


# --- its machine ------------------------------------------------------------------------------------------------------


class _Abort(Exception):  # noqa: N818 -- how grpc ends a call
    """A call that was refused."""


class _Call:
    """The context of one call that nobody listens to."""

    async def abort(self, _code: Any, reason: str) -> NoReturn:
        raise _Abort(reason)

    def add_done_callback(self, done: Any) -> None:
        done(self)


def measure(data: bytes) -> None:
    """As many bytes come back as were asked for, if they are few; a machine is one that there may be."""
    try:
        request = pb.MeasureRequest.FromString(data)
    except DecodeError:
        return
    inbox, call = Inbox(), _Call()
    surveying = Surveying(inbox, Tallies(ByteMeter(), Refusals()), lambda: 2**20)
    session = SessionTable(POOLS, Patience()).join(JoinWish("w", "p", (1,)), "s", 0.0).session
    try:
        reply = asyncio.run(surveying.measure(request, session, call))  # type: ignore[arg-type]
    except _Abort:
        return
    assert len(reply.payload) == request.wanted <= MOST_BYTES
    posted = inbox.take(0.0)
    if posted is not None:
        assert isinstance(posted.event, ClientsProfiled)
        profile = posted.event.profile
        assert profile.flops * profile.memory_bytes * profile.up_bytes_per_s * profile.down_bytes_per_s < math.inf
        assert profile.latency_s + 1 / profile.up_bytes_per_s < math.inf


def measurements() -> Iterator[bytes]:
    profile = pb.Profile(flops=1e9, memory_bytes=2**30, latency_s=0.01, up_bytes_per_s=1e6, down_bytes_per_s=1e7)
    yield pb.MeasureRequest(session="s", payload=b"0" * 100, wanted=100).SerializeToString()
    yield pb.MeasureRequest(session="s", wanted=2**20, profile=profile).SerializeToString()
    profile.flops = math.nan
    yield pb.MeasureRequest(session="s", wanted=2**32 - 1, profile=profile).SerializeToString()
