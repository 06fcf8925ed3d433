"""A worker without a task: it moves models and updates as real ones do and learns by a formula, with numpy alone.

Crash tests, benchmarks and trials of a network run it against a real coordinator. It follows the worker's rule to the
letter (hold an encoded update until it is settled, never train one assignment twice) and counts what it does, so that
tests can ask whether anybody had to do something again. Many of them share one asyncio loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import grpc
import grpc.aio
import numpy as np

from muster_coordinator.assignments import client_of
from muster_coordinator.records import AssignmentId
from muster_wire import feedback
from muster_wire.codecs import CODECS, CodecId
from muster_wire.control import split_control
from muster_wire.frames import Header, Transfer, message_limit, prepare
from muster_wire.holding import Holding
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.messages import recipe_from
from muster_wire.payload import encode_snapshot, encode_update
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.v1.federation_pb2_grpc import FederationStub
from muster_wire.values import Values
from muster_wire.version import CURRENT

RETRY_S = 0.05

_OPTIONS = (
    ("grpc.max_receive_message_length", message_limit(2**24)),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),  # a connection each, though they share a process
)


@dataclass(frozen=True, slots=True)
class Trained:
    """What one local training gives."""

    update: Values
    examples: int
    steps: int = 1
    metrics: dict[str, float] = field(default_factory=dict)


class Learner(Protocol):
    """Stands in for a task."""

    def first(self, seed: int) -> Values: ...

    def train(self, base: Values, seed: int) -> Trained: ...

    def evaluate(self, model: Values) -> tuple[int, dict[str, float]]: ...


class Drift:
    """Each training moves the model part of the way to a point that its seed names: no data, the same every time."""

    def __init__(self, weights: int) -> None:
        self.layout = Layout(
            (
                TensorSpec("weight", (weights,), "float32", Kind.TRAINABLE),
                TensorSpec("running_mean", (4,), "float32", Kind.FLOAT_BUFFER),
                TensorSpec("steps", (), "int64", Kind.INTEGER_BUFFER),
            )
        )

    def first(self, seed: int) -> Values:
        model = Values.zeros(self.layout)
        model.trainable[...] = np.random.default_rng(seed).standard_normal(model.trainable.size, np.float32)
        return model

    def train(self, base: Values, seed: int) -> Trained:
        update = Values.zeros(base.layout, frozen=False)  # a first model from a file has an order of its own
        target = np.random.default_rng(seed).standard_normal(update.trainable.size, np.float32)
        update.trainable[...] = 0.5 * (target - base.trainable)
        update.float_buffers[...] = 0.1
        update.integers[...] = base.integers + 1
        return Trained(update, examples=1 + seed % 7, metrics={"loss": float(np.abs(target[:64]).mean())})

    def evaluate(self, model: Values) -> tuple[int, dict[str, float]]:
        return 10, {"loss": float(np.abs(model.trainable[:64]).mean())}


@dataclass(frozen=True, slots=True)
class Held:
    """An encoded update, until it is settled; and what its client has left to send after it."""

    transfer: Transfer
    trained: Trained
    left: feedback.Memory | None = None


class RehearsalWorker:
    """One worker. `run` works until the coordinator says that the job is over; its counters may be read meanwhile."""

    def __init__(
        self, address: str, token: str, pool: str, indices: Sequence[int], learner: Learner, name: str
    ) -> None:
        self.name = name
        self.pool = pool
        self.indices = tuple(indices)
        self.learner = learner
        self.held: dict[str, Held] = {}
        self.left: dict[str, feedback.Memory] = {}  # by client
        self.trainings: Counter[str] = Counter()
        self.submissions: Counter[str] = Counter()
        self.verdicts: dict[str, pb.Verdict] = {}
        self.settled: dict[str, bool] = {}
        self.joins = 0
        self.session = ""
        self.metadata = (("authorization", f"Bearer {token}"),)
        self._address = address
        self._models: dict[str, Values] = {}
        self._holding = Holding()
        self._fetching = asyncio.Lock()
        self._work: dict[str, asyncio.Task[None]] = {}
        self._done: set[str] = set()

    @property
    def stub(self) -> FederationStub:
        return self._stub

    async def run(self) -> str:
        """Why the job is over, in the coordinator's words."""
        async with self.open_channel(_OPTIONS) as channel:
            self._stub = FederationStub(channel)  # type: ignore[no-untyped-call]
            try:
                while True:
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        reason = await self._serve_session()
                        if reason is not None:
                            return reason
                    await asyncio.sleep(RETRY_S)
            finally:
                working = list(self._work.values())
                for task in working:
                    task.cancel()
                await asyncio.gather(*working, return_exceptions=True)

    def open_channel(self, options: Sequence[tuple[str, int]]) -> grpc.aio.Channel:
        """A plain one; who rehearses with TLS overrides this."""
        return grpc.aio.insecure_channel(self._address, options=options)

    # --- sessions -----------------------------------------------------------------------------------------------------

    async def _serve_session(self) -> str | None:
        await self.join()
        beats = asyncio.create_task(self._beat(self.session))
        try:
            async for orders in self._stub.Listen(pb.ListenRequest(session=self.session), metadata=self.metadata):
                self._make_it_so(orders)
                if orders.finished:
                    await self.confirm_end()
                    return str(orders.reason)
        finally:
            beats.cancel()
        return None

    async def join(self) -> None:
        """Open a session, saying which updates are held."""
        reply = await self._stub.Join(self.introduce(), metadata=self.metadata)
        self.session = reply.session
        self._done.clear()  # another coordinator may have heard nothing of it
        self.frame_bytes = reply.frame_bytes
        self.beat_s = reply.beat_interval_ms / 1000
        self.joins += 1

    def introduce(self) -> pb.JoinRequest:
        """What it says of itself."""
        return pb.JoinRequest(
            version=pb.Version(major=CURRENT.major, minor=CURRENT.minor),
            software="rehearsal",
            worker=self.name,
            pool=self.pool,
            indices=self.indices,
            codecs=[pb.CodecId.Name(codec.value) for codec in CODECS],
            device="cpu",
            held_assignments=sorted(self.held),
            sub_models=True,
            control_variates=True,
            confirms_end=True,
        )

    async def _beat(self, session: str) -> None:
        while True:
            await asyncio.sleep(self.beat_s)
            with contextlib.suppress(grpc.aio.AioRpcError):
                await self._stub.Beat(pb.BeatRequest(session=session), metadata=self.metadata)

    async def confirm_end(self) -> None:
        """Say that the last orders have come."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self._stub.Beat(pb.BeatRequest(session=self.session, finished=True), metadata=self.metadata)

    # --- orders -------------------------------------------------------------------------------------------------------

    def _make_it_so(self, orders: pb.Orders) -> None:
        for settlement in orders.settlements:
            held = self.held.pop(settlement.assignment, None)
            if held is not None:
                self._settle(settlement, held)
        wanted = {assignment.id: assignment for assignment in orders.assignments}
        for name in self._work.keys() - wanted.keys() - self.submissions.keys():
            self._work.pop(name).cancel()  # what is being handed in gets its verdict
        for name in wanted.keys() - self._work.keys() - self._done:
            self._work[name] = asyncio.create_task(self._until_done(wanted[name]))

    def _settle(self, settlement: pb.Settlement, held: Held) -> None:
        used = settlement.fate == pb.Settlement.FATE_USED
        self.settled[settlement.assignment] = used
        if used and held.left is not None:
            self.left[client_of(AssignmentId(settlement.assignment))] = held.left

    async def _until_done(self, assignment: pb.Assignment) -> None:
        """Work at one assignment, through as many broken connections as it takes."""
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                if await self._do(assignment):
                    self._done.add(assignment.id)
                    self._work.pop(assignment.id, None)
                    return
            await asyncio.sleep(RETRY_S)

    async def _do(self, assignment: pb.Assignment) -> bool:
        if assignment.WhichOneof("work") == "evaluate":
            return await self._evaluate(assignment)
        if assignment.id not in self.held:
            if assignment.id in self.settled:
                return True
            self.held[assignment.id] = await self._make(assignment)
            self.trainings[assignment.id] += 1
        verdict = await self.submit(assignment.id, self.held[assignment.id])
        if verdict is None:
            return False
        self.verdicts[assignment.id] = verdict
        if not verdict.accepted:
            self.held.pop(assignment.id, None)
        return True

    async def _make(self, assignment: pb.Assignment) -> Held:
        if assignment.WhichOneof("work") == "initialise":
            return self.encode(Trained(self.learner.first(assignment.initialise.seed), examples=0), CodecId.FLOAT32)
        base = await self._model(assignment.train.base)
        trained = await asyncio.to_thread(self.learner.train, base, assignment.train.seed)
        if not assignment.train.HasField("recipe"):
            return self.encode(trained, CodecId(assignment.train.codec))
        return self._encode_by(assignment, trained)

    def _encode_by(self, assignment: pb.Assignment, trained: Trained) -> Held:
        """An update made as the whole recipe says."""
        recipe = recipe_from(assignment.train.recipe)
        left = self.left.get(client_of(AssignmentId(assignment.id)), feedback.Memory.empty())
        encoded = feedback.encode_by(assignment.train.seed, trained.update, recipe, left)
        transfer = prepare(encoded.payload, trained.update.layout, recipe.pipeline, "", self.frame_bytes)
        return Held(transfer, trained, encoded.memory)

    def encode(self, trained: Trained, codec: CodecId) -> Held:
        """An update, or with frozen tensors a first model, as it will be handed in."""
        values = trained.update
        is_model = trained.examples == 0
        payload = encode_snapshot(values, codec) if is_model else encode_update(values, codec)
        return Held(prepare(payload, values.layout, codec, "", self.frame_bytes), trained)

    async def _evaluate(self, assignment: pb.Assignment) -> bool:
        examples, metrics = self.learner.evaluate(await self._model(assignment.evaluate.model))
        await self._stub.Report(
            pb.ReportRequest(session=self.session, assignment=assignment.id, examples=examples, metrics=metrics),
            metadata=self.metadata,
        )
        return True

    # --- transfers ----------------------------------------------------------------------------------------------------

    async def _model(self, digest: str) -> Values:
        """The model of this name, fetched once for all that is done with it."""
        async with self._fetching:
            if digest not in self._models:
                self._models = {digest: await self.fetch(digest)}
            return self._models[digest]

    async def fetch(self, digest: str) -> Values:
        """Receive what leads from the version that is held to this one."""
        wish = self._holding.want(digest)
        request = pb.FetchRequest(
            session=self.session, digest=digest, offset=wish.offset, held=wish.held, partial=wish.partial
        )
        async for frame in self._stub.Fetch(request, metadata=self.metadata):
            if frame.HasField("header"):
                self._holding.begin(Header.from_message(frame.header))
            self._holding.add(frame)
        if not self._holding.is_there:
            raise ValueError(f"what was sent doesn't lead to {digest}")
        return split_control(self._holding.take())[0]  # it learns by a formula, which needs no variate

    async def submit(self, assignment: str, held: Held) -> pb.Verdict | None:
        """Hand an update in; None when the coordinator wants to be asked again later."""
        self.submissions[assignment] += 1
        call = self._stub.Submit(metadata=self.metadata)
        await call.write(pb.SubmitRequest(offer=self.offer(assignment, held)))
        reply = await call.read()
        if reply is not grpc.aio.EOF and reply.WhichOneof("kind") == "proceed":
            async for request in self.requests(held.transfer, reply.proceed.offset):
                await call.write(request)
            reply = await call.read()
        if reply is grpc.aio.EOF:
            await call.code()
            return None
        if reply.WhichOneof("kind") == "wait":
            await asyncio.sleep(reply.wait.milliseconds / 1000)
            return None
        verdict: pb.Verdict = reply.verdict
        return verdict

    def offer(self, assignment: str, held: Held) -> pb.Offer:
        """What is said of an update before its bytes."""
        trained = held.trained
        return pb.Offer(
            session=self.session,
            assignment=assignment,
            header=held.transfer.header.to_message(),
            examples=trained.examples,
            steps=trained.steps,
            metrics=trained.metrics,
            train_ms=1,
        )

    async def requests(self, transfer: Transfer, offset: int) -> AsyncIterator[pb.SubmitRequest]:
        """The frames of an update, one at a time."""
        for encoded in transfer.requests(offset):
            yield pb.SubmitRequest.FromString(encoded)
