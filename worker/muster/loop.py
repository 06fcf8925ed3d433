"""The working thread: reads the desk, asks `reconcile` what is next, does it, one assignment at a time.

Whatever breaks on the way is met by looking again: an update is held before it is offered, a transfer goes on where it
stopped, a finished evaluation is reported again rather than repeated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from muster.audit import Told
from muster.client_state import Book, HeldUpdate, Offered, State, of_model
from muster.connection import Postponed, Verdict
from muster.courier import backoff_s
from muster.desk import Activity, Desk, Ending
from muster.errors import ConnectionBrokenError, MusterError, RankLostError
from muster.evaluation import Evaluated
from muster.leases import Leases
from muster.models import Line as Downlink
from muster.models import Models
from muster.orders import Assignment, Evaluate, Initialise, Orders, Scope, Settlement, SubModel, Train
from muster.reconcile import Action, Leave, Offer, Settle, Standing, Wait, Work, next_action
from muster.survey import Survey
from muster.task import Client
from muster.variates import variate_after, variate_of, with_variate
from muster.witness import Witness
from muster.workshop import Hooks, Trainee
from muster_spec.clients import ClientId
from muster_wire.codecs import Pipeline
from muster_wire.control import split_control
from muster_wire.errors import WireError
from muster_wire.feedback import Encoded, Memory, encode_by
from muster_wire.frames import Transfer, prepare
from muster_wire.layout import Layout
from muster_wire.payload import snapshot_in_place
from muster_wire.submodel import Part, narrowed, widened
from muster_wire.v1 import federation_pb2 as wire
from muster_wire.values import Floats, Values, applied

log = logging.getLogger(__name__)

_LOST = (
    "%s took part %d times, and %s is lost: it goes on from zero; a --state folder that outlives the worker would have "
    "kept it"
)


@dataclass(frozen=True, slots=True)
class Result:
    """What is reported of an assignment that gives no update: measures, or why it is given up."""

    evaluated: Evaluated
    error: str = ""


class Line(Downlink, Protocol):
    """What the loop needs of the connection to its coordinator; `connection.Connection` is one over gRPC."""

    @property
    def frame_bytes(self) -> int: ...

    def offer(self, offer: wire.Offer, transfer: Transfer) -> Verdict | Postponed: ...

    def report(self, assignment: str, examples: int, metrics: Mapping[str, float], error: str = "") -> None: ...


class Shop(Protocol):
    """Where the work itself is done; `workshop.Workshop` does it with the user's task."""

    def initialise(self, seed: int, *, with_groups: bool = False) -> Values: ...

    def part(self, wanted: SubModel) -> Part: ...

    def train(
        self, client: Client, base: Values, state: State, seed: int, hooks: Hooks, part: Part | None = None
    ) -> Trainee | None: ...

    def evaluate(self, client: Client, values: Values, state: State, scope: Scope) -> Evaluated: ...

    def losses(
        self, client: Client, models: Iterable[Values], state: State, seed: int, part: Part | None = None
    ) -> list[float]: ...


class Loop:
    """One worker at work for its clients.

    `run` does it in a thread of its own; who has no thread to spare (a simulation) asks it to `decide` and to `act`.
    """

    def __init__(
        self,
        desk: Desk,
        connection: Line,
        workshop: Shop,
        book: Book,
        leases: Leases,
        witness: Witness,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.survey: Survey | None = None  # for moments in which there is nothing else to do
        self._desk = desk
        self._connection = connection
        self._workshop = workshop
        self._book = book
        self._leases = leases
        self._witness = witness
        self._clock = clock
        self._models = Models(connection, book.shelf())
        self._session = 0
        self._offered: set[str] = set()
        self._done: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._results: dict[str, Result] = {}
        self._transfer: tuple[str, Transfer] | None = None
        self._failures = 0

    def run(self) -> Ending:
        """Work until the job is over or the desk says to end."""
        while self._desk.ending is None:
            orders, session = self._desk.read_current()
            try:
                self.act(self.decide(orders, session), orders)
                self._leases.let_go(orders.handover, self._book.release)
                self._failures = 0
            except ConnectionBrokenError as error:
                self._failures += 1
                log.info("%s; looking again", error)
                self._desk.wait_ending(backoff_s(self._failures, 1.0))
            finally:
                self._desk.activity = None
        return self._desk.ending

    def decide(self, orders: Orders, session: int) -> Action:
        """What to do next towards these orders, which came in this session."""
        self._tidy(orders, session)
        return next_action(
            orders, Standing(self._book.held(), self._offered, self._done, self._not_before), self._clock()
        )

    def _tidy(self, orders: Orders, session: int) -> None:
        """Forget what no order names; and in a new session, what the coordinator acknowledged in the last one."""
        wanted = {each.id for each in orders.assignments}
        self._models.bring(orders.frames)
        if session != self._session:
            self._session = session
            self._failures = 0  # the coordinator is there: what broke with the last session goes on at once
            self._offered.clear()
            self._done.clear()
        self._offered &= wanted
        self._done &= wanted
        self._not_before = {id_: when for id_, when in self._not_before.items() if id_ in wanted}
        self._results = {id_: result for id_, result in self._results.items() if id_ in wanted}

    def act(self, action: Action, orders: Orders) -> None:
        """Do it. ConnectionBrokenError where the coordinator is out of reach: decide again, later."""
        match action:
            case Settle(settlement):
                self._settle(settlement)
            case Offer(assignment):
                with self._witness.doing("submit", assignment):
                    self._offer(assignment)
            case Work(assignment):
                if self.survey is not None and self.survey.is_first:
                    self.survey.run(self._session)
                with self._witness.doing(type(assignment.work).__name__.lower(), assignment):
                    self._work(assignment)
            case Wait(until):
                self._wait(orders, until)
            case Leave(reason):
                self._desk.end(Ending(0, reason))

    def _wait(self, orders: Orders, until: float | None) -> None:
        """For news, or for the moment when a coordinator that had no room wants to be asked again."""
        if self.survey is not None and until is None and self.survey.is_due(self._session):
            self.survey.run(self._session)
            return
        if until is not None:
            self._desk.activity = Activity(min(self._not_before, key=lambda id_: self._not_before[id_]), "waiting")
        self._desk.wait_news(orders, None if until is None else max(until - self._clock(), 0.0))

    def _settle(self, settlement: Settlement) -> None:
        fate = "used" if settlement.used else "not used"
        log.info("update %s was %s: %s", settlement.assignment, fate, settlement.reason)
        self._book.settle(settlement.assignment, used=settlement.used)
        self._witness.settled(used=settlement.used)
        self._transfer = None

    # --- handing in ---------------------------------------------------------------------------------------------------

    def _offer(self, assignment: Assignment) -> None:
        self._desk.activity = Activity(assignment.id, "submitting")
        offered, transfer = self._prepared(assignment)
        self._witness.sends(assignment, _told(offered, transfer))
        answer = self._connection.offer(_offer_message(offered), transfer)
        if isinstance(answer, Postponed):
            self._not_before[assignment.id] = self._clock() + answer.delay_s
        elif answer.accepted:
            self._witness.answered(assignment, accepted=True, reason=answer.reason)
            self._offered.add(assignment.id)
        else:
            self._witness.answered(assignment, accepted=False, reason=answer.reason)
            log.warning("update %s was not taken: %s", assignment.id, answer.reason)
            self._done.add(assignment.id)
            if not answer.is_unknown:  # a coordinator that has just restarted may still come to want it
                self._settle(Settlement(assignment.id, used=False, reason=answer.reason))

    def _prepared(self, assignment: Assignment) -> tuple[Offered, Transfer]:
        """The update cut into frames, the same ones if an earlier offer of it broke."""
        update = self._book.find(assignment.id)
        offered = update.offered
        if self._transfer is None or self._transfer[0] != assignment.id:
            layout = _layout(offered.layout)
            frame_bytes = self._connection.frame_bytes
            pipeline = Pipeline.from_fields(*offered.pipeline)
            transfer = prepare(update.payload, layout, pipeline, "", frame_bytes)
            self._transfer = (assignment.id, transfer)
        return offered, self._transfer[1]

    # --- working ------------------------------------------------------------------------------------------------------

    def _work(self, assignment: Assignment) -> None:
        with self._leases.hand(assignment.client) as client:
            if client is None and self._leases.has_left(assignment.client):
                self._done.add(assignment.id)  # by whoever acts for it next
                return
            if client is None:
                not_ours = f"this worker doesn't act for {assignment.client}"
                self._results[assignment.id] = Result(Evaluated(0, {}), not_ours)
            elif assignment.id not in self._results:
                self._try(assignment, client)
        result = self._results.get(assignment.id)
        if result is not None:
            evaluated = result.evaluated
            self._witness.sends(
                assignment, {"examples": evaluated.examples, "metrics": dict(evaluated.metrics), "error": result.error}
            )
            self._connection.report(assignment.id, evaluated.examples, evaluated.metrics, result.error)
            self._done.add(assignment.id)

    def _try(self, assignment: Assignment, client: Client) -> None:
        try:
            self._do(assignment, client)
        except (ConnectionBrokenError, RankLostError):
            raise
        except (MusterError, WireError) as error:
            log.error("%s, round %d: %s", assignment.client, assignment.round, error)  # noqa: TRY400 -- traceback is logged
            self._results[assignment.id] = Result(Evaluated(0, {}), str(error))

    def _do(self, assignment: Assignment, client: Client) -> None:
        match assignment.work:
            case Initialise(seed, groups):
                self._desk.activity = Activity(assignment.id, "initialising")
                self._keep_model(assignment, self._workshop.initialise(seed, with_groups=groups))
            case Train() as order:
                self._train(assignment, client, order)
            case Evaluate(model, scope):
                values, _ = split_control(self._fetch(assignment, model))
                self._desk.activity = Activity(assignment.id, "evaluating")
                state = of_model(self._book.state(assignment.client))
                evaluated = self._workshop.evaluate(client, values, state, scope)
                self._results[assignment.id] = Result(evaluated)

    def _fetch(self, assignment: Assignment, digest: str) -> Values:
        self._desk.activity = Activity(assignment.id, "fetching")
        with self._witness.doing("fetch", assignment):
            return self._models.get(digest)

    def _train(self, assignment: Assignment, client: Client, order: Train) -> None:
        base, control = split_control(self._fetch(assignment, order.base))
        state = self._book.state(assignment.client)

        def show(fraction: float) -> None:
            self._desk.activity = Activity(assignment.id, "training", fraction)

        def should_stop() -> bool:
            return self._desk.is_unwanted(assignment.id)

        show(0.0)
        part = self._workshop.part(order.sub_model) if order.sub_model else None
        variate, is_lost = self._variate(assignment, order, state, control)
        corrected = state if variate is None or control is None else with_variate(state, control - variate)
        trainee = self._workshop.train(
            client,
            base,
            corrected,
            order.seed,
            Hooks(should_stop, show, order.stop_at, order.steps, order.sampling, order.matched),
            part,
        )
        if trainee is None:
            log.info("stopped %s: it is no longer wanted", assignment.id)
            return
        whole = part.whole if part else base.layout
        memory, has_lost = self._memory(assignment, order, whole.trainable_size)
        encoded = encode_by(order.seed, trainee.update, order.recipe, narrowed(memory, part))
        offered = Offered(
            assignment=assignment.id,
            client=assignment.client,
            pipeline=order.recipe.pipeline.fields,
            layout=trainee.update.layout.to_json(),
            examples=trainee.trained.examples,
            steps=trainee.trained.steps,
            metrics=trainee.trained.metrics,
            train_ms=trainee.train_ms,
            memory_lost=is_lost or has_lost,
            probe=self._probe(client, base, order, encoded, part),
        )
        memory_after = widened(memory, encoded.memory, part) if order.recipe.remembers else None
        state_after = trainee.state_after
        if variate is not None and control is not None:
            after = variate_after(variate, control, encoded.decoded, trainee.trained.steps, trainee.rate)
            state_after = with_variate(state_after, after)
        self._book.keep(HeldUpdate(offered, encoded.payload, state_after, memory_after))

    def _variate(
        self, assignment: Assignment, order: Train, state: State, control: Floats | None
    ) -> tuple[Floats | None, bool]:
        """This client's control variate, where there is one for the model; and whether it is lost: then it is zero."""
        if control is None:
            return None, False
        variate = variate_of(state, control.size)
        if variate is not None:
            return variate, False
        if order.participations:
            log.warning(_LOST, assignment.client, order.participations, "its control variate")
        return np.zeros_like(control), order.participations > 0

    def _probe(
        self, client: Client, base: Values, order: Train, encoded: Encoded, part: Part | None
    ) -> tuple[float, float, float] | None:
        """What the share of values sent is learnt from, where it is: the loss before, after, had less been sent."""
        if not order.recipe.probe:
            return None
        models = (base, applied(encoded.decoded, base), applied(encoded.fewer(order.recipe.probe), base))
        before, after, fewer = self._workshop.losses(
            client, models, of_model(self._book.state(ClientId(client.name))), order.seed, part
        )
        return before, after, fewer

    def _memory(self, assignment: Assignment, order: Train, size: int) -> tuple[Memory, bool]:
        """What this client has left to send, and whether it is lost: then it is zero, after as many participations."""
        if not order.recipe.remembers:
            return Memory.empty(), False
        memory = self._book.memory(assignment.client, size)
        if memory.participations >= order.participations:  # fewer: it took part through another worker since
            return memory, False
        log.warning(_LOST, assignment.client, order.participations, "what it had left to send")
        return Memory.empty(order.participations), True

    def _keep_model(self, assignment: Assignment, values: Values) -> None:
        offered = Offered(
            assignment=assignment.id,
            client=assignment.client,
            pipeline=Pipeline().fields,
            layout=values.layout.to_json(),
        )
        self._book.keep(HeldUpdate(offered, snapshot_in_place(values)))


@lru_cache(maxsize=4)
def _layout(text: str) -> Layout:
    """A job's updates have the same one, round after round."""
    return Layout.from_json(text)


def _told(offered: Offered, transfer: Transfer) -> dict[str, Told]:
    """What is said of an update where it is written down that it leaves."""
    return {
        "bytes": transfer.header.size,
        "checksum": transfer.header.checksum,
        "examples": offered.examples,
        "steps": offered.steps,
        "metrics": dict(offered.metrics),
    }


def _offer_message(offered: Offered) -> wire.Offer:
    probe = offered.probe
    return wire.Offer(
        assignment=offered.assignment,
        examples=offered.examples,
        steps=offered.steps,
        metrics=offered.metrics,
        train_ms=offered.train_ms,
        memory_lost=offered.memory_lost,
        probe=wire.Probe(before=probe[0], after=probe[1], fewer=probe[2]) if probe else None,
    )
