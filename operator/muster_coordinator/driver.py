"""The one place where the engine's instructions become deeds.

`handle` steps the engine with one event and carries out what it answers, in order, through ports; what a deed completes
(a plan stored, a round stored) is stepped before the next event from outside. No thread, no network and no waiting in
here: production calls `handle` from a thread that drains an inbox, a simulation from a loop over its own clock.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from muster_coordinator import engine, tells
from muster_coordinator.audience import audience_of
from muster_coordinator.config import EngineConfig
from muster_coordinator.events import (
    EvaluationReported,
    EvaluationStored,
    Event,
    PlanStored,
    RoundStored,
    WorkFailed,
)
from muster_coordinator.instructions import (
    Accept,
    Finish,
    Fold,
    Instruction,
    LoadFirstModel,
    OpenRound,
    OrderEvaluation,
    OrderInitialisation,
    OrderTraining,
    Outcome,
    Refuse,
    Settle,
    StoreCommit,
    StoreEvaluation,
    StorePlan,
    Tell,
    WakeAt,
    Withdraw,
)
from muster_coordinator.orders import Answer, Fate, Order
from muster_coordinator.ports import Made, Ports
from muster_coordinator.records import RoundCommit
from muster_coordinator.recovery import History, after_commit
from muster_coordinator.state import JobState, Progress

log = logging.getLogger("muster.coordinator")


class Driver:
    """Owns the engine's state. All calls come from one thread."""

    def __init__(self, config: EngineConfig, ports: Ports) -> None:
        self.config = config
        self.ports = ports
        self.wake_at: float | None = None  # on the engine's clock: when to handle a Tick
        self.finish: Finish | None = None
        self._has_committed = False  # and so there may be something to prune
        self._state: JobState | None = None
        self._carry_out: dict[type[Any], Callable[[Any], Event | None]] = {
            StorePlan: self._store_plan,
            LoadFirstModel: self._load_first_model,
            OpenRound: self._open_round,
            OrderTraining: self._order,
            OrderInitialisation: self._order,
            OrderEvaluation: self._order,
            Withdraw: self._withdraw,
            Accept: self._accept,
            Refuse: self._refuse,
            Fold: self._fold,
            StoreCommit: self._store_commit,
            Settle: self._settle,
            StoreEvaluation: self._store_evaluation,
            WakeAt: self._wake_at,
            Tell: self._tell,
            Finish: self._finish,
        }

    @property
    def has_started(self) -> bool:
        return self._state is not None

    @property
    def state(self) -> JobState:
        """The engine's state, for whoever looks on."""
        if self._state is None:
            raise RuntimeError("the driver has not been started")
        return self._state

    def look(self) -> JobState | None:
        """The engine's state, for whoever looks on from another thread; None before the start."""
        return self._state

    @property
    def progress(self) -> Progress:
        """What has been learnt so far; nothing before the start."""
        return self._state.progress if self._state else Progress()

    def start(self, history: History) -> None:
        """Begin, or go on where the records end."""
        state, instructions = engine.start(self.config, history, self.ports.clock.now())
        if state.progress.last is not None:
            self._publish(state.progress)
            self.ports.orders.committed(state.progress.committed)
        self._run(state, instructions)

    def handle(self, event: Event) -> None:
        """One event from outside, and everything that follows from it."""
        state, instructions = engine.step(self.state, event, self.ports.clock.now())
        if isinstance(event, (EvaluationReported, WorkFailed)):
            self.ports.orders.withdraw(event.client, event.assignment)  # done or given up: it is not wanted again
        self._run(state, instructions)

    def _run(self, state: JobState, instructions: list[Instruction]) -> None:
        self._state = state
        completed = self._carry_out_all(instructions)
        while completed:
            self._state, instructions = engine.step(self.state, completed.popleft(), self.ports.clock.now())
            completed.extend(self._carry_out_all(instructions))
        self.ports.orders.flush()
        self._prune()

    def _carry_out_all(self, instructions: list[Instruction]) -> deque[Event]:
        completed: deque[Event] = deque()
        for instruction in instructions:
            self.ports.observer.reached(f"before {type(instruction).__name__}")
            event = self._carry_out[type(instruction)](instruction)
            if event is not None:
                completed.append(event)
        return completed

    # --- durable deeds ------------------------------------------------------------------------------------------------

    def _store_plan(self, instruction: StorePlan) -> Event:
        self.ports.store.save_plan(instruction.plan)
        return PlanStored(instruction.plan)

    def _load_first_model(self, instruction: LoadFirstModel) -> Event:
        now = self.ports.clock.now()
        made = self.ports.models.load_first(instruction.path)
        first = StoreCommit(0, 0, base="", used=(), failed={}, failed_attempts=0, opened=now)
        return self._commit(first, made)

    def _store_commit(self, instruction: StoreCommit) -> Event:
        return self._commit(
            instruction, self.ports.models.make(instruction.round, instruction.scale, instruction.corrections)
        )

    def _commit(self, instruction: StoreCommit, made: Made) -> Event:
        commit = self._record_of(instruction, made)
        self.ports.store.save_commit(commit)
        self._publish(after_commit(self.state.progress, commit, self.config))
        self._has_committed = True
        self.ports.orders.committed(commit.round)
        return RoundStored(commit)

    def _prune(self) -> None:
        """Forget old models: only now, since clients that have their next orders needn't wait for that."""
        if not self._has_committed:
            return
        self._has_committed = False
        best = self.state.progress.best
        self.ports.models.prune({best.model} if best else set())

    def _publish(self, progress: Progress) -> None:
        audience = audience_of(progress, progress.committed, self.config)
        self.ports.models.publish(progress.model, progress.committed, audience)

    def _record_of(self, instruction: StoreCommit, made: Made) -> RoundCommit:
        clock = self.ports.clock
        seconds = clock.now() - instruction.opened
        traffic = self.ports.meter.take()
        return RoundCommit(
            round=instruction.round,
            attempt=instruction.attempt,
            epoch=self.config.epoch,
            base=instruction.base,
            model=made.model,
            used=instruction.used,
            failed=instruction.failed,
            failed_attempts=instruction.failed_attempts,
            started_s=clock.unix() - seconds,
            seconds=seconds,
            bytes_up=traffic.up,
            bytes_down=traffic.down,
            bytes_plain=traffic.plain_up + traffic.plain_down,
            bytes_plain_up=traffic.plain_up,
            owed=instruction.owed,
            stragglers=instruction.stragglers,
            reason=instruction.reason,
            norm=made.norm,
            widths=made.widths,
            matches={each.client: places for each, places in zip(instruction.used, made.matches, strict=False)},
            server_state=made.server_state,
            absences=instruction.absences,
            is_rolling=instruction.is_rolling,
            profiled=instruction.profiled,
        )

    def _store_evaluation(self, instruction: StoreEvaluation) -> Event:
        self.ports.store.save_evaluation(instruction.record)
        return EvaluationStored(instruction.record)

    # --- sums ---------------------------------------------------------------------------------------------------------

    def _open_round(self, instruction: OpenRound) -> None:
        self.ports.models.open(instruction.base, instruction.round, instruction.phase)

    def _fold(self, instruction: Fold) -> None:
        self.ports.models.fold(instruction.assignment, instruction.weight, instruction.beside)

    # --- what clients are told ----------------------------------------------------------------------------------------

    def _order(self, instruction: Order) -> None:
        self.ports.orders.order(instruction)

    def _withdraw(self, instruction: Withdraw) -> None:
        self.ports.orders.withdraw(instruction.client, instruction.assignment)

    def _accept(self, instruction: Accept) -> None:
        self.ports.orders.answer(instruction.client, instruction.assignment, Answer(accepted=True))

    def _refuse(self, instruction: Refuse) -> None:
        self.ports.models.forget(instruction.assignment)
        self.ports.orders.answer(instruction.client, instruction.assignment, Answer(False, instruction.reason))
        # Settled as well: its worker may miss the answer, and must not keep for ever what is of no use.
        self.ports.orders.settle(instruction.client, Fate(instruction.assignment, False, instruction.reason))

    def _settle(self, instruction: Settle) -> None:
        self.ports.models.forget(instruction.assignment)
        fate = Fate(instruction.assignment, instruction.used, instruction.reason)
        self.ports.orders.settle(instruction.client, fate)

    # --- the rest -----------------------------------------------------------------------------------------------------

    def _wake_at(self, instruction: WakeAt) -> None:
        self.wake_at = instruction.when

    def _tell(self, instruction: Tell) -> None:
        log.info("%s", instruction.message, extra=tells.place_of(instruction))
        self.ports.reporter.tell(instruction.kind, instruction.details)

    def _finish(self, instruction: Finish) -> None:
        self.finish = instruction
        if instruction.outcome is not Outcome.SUSPENDED:  # who is suspended goes on later, with the same workers
            self.ports.orders.finish(instruction.message)
