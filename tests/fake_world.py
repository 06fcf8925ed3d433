"""A whole job in memory: the engine with stores, sums, workers and a clock that tests move by hand.

Every instruction is carried out and checked against what is stored: nobody is asked without a stored plan, nothing is
folded twice, the folded set is the used set, rounds follow one another. A crash may come between any two instructions;
only records and living clients survive it.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from muster_coordinator import engine
from muster_coordinator.config import EngineConfig, PoolSize
from muster_coordinator.events import (
    ClientsJoined,
    ClientsLost,
    EvaluationReported,
    EvaluationStored,
    Event,
    PlanStored,
    RoundStored,
    Tick,
    UpdateRejected,
    UpdateStaged,
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
    Refuse,
    Scope,
    Settle,
    StoreCommit,
    StoreEvaluation,
    StorePlan,
    Tell,
    WakeAt,
    Withdraw,
)
from muster_coordinator.invariants import check_invariants
from muster_coordinator.modes import Grouped
from muster_coordinator.records import AssignmentId, EvaluationRecord, RoundCommit, RoundPlan
from muster_coordinator.recovery import History
from muster_coordinator.selection import SELECTORS
from muster_coordinator.state import JobState
from muster_spec.clients import ClientId, client_id

Order = OrderTraining | OrderInitialisation | OrderEvaluation


def config_for(sizes: Mapping[str, int] | None = None, **choices: Any) -> EngineConfig:
    """A small job: clients a/0, a/1, … ; three rounds with everybody; no evaluation."""
    sizes = sizes or {"a": 3}
    clients = tuple(client_id(name, index) for name, count in sizes.items() for index in range(count))
    cohort = choices.get("cohort", len(clients))
    defaults: dict[str, Any] = {
        "seed": 7,
        "epoch": 1,
        "pools": tuple(PoolSize(name, count, trusted=True) for name, count in sizes.items()),
        "clients": clients,
        "ordinals": {client: ordinal for ordinal, client in enumerate(clients)},
        "total": 3,
        "cohort": cohort,
        "asked": cohort,
        "min_updates": None,
        "deadline_s": 60.0,
        "on_insufficient": "Retry",
        "max_failed": 3,
        "late": None,
        "goal": None,
        "patience": None,
        "evaluate_every": 1,
        "central": False,
        "federated": False,
        "evaluation_timeout_s": 30.0,
        "compression": "up float32, down float32",
        "is_auto": False,
        "initial_model": None,
        "selector": SELECTORS["All" if cohort == len(clients) else "Random"],
    }
    return EngineConfig(**{**defaults, **choices})


def least_updates(config: EngineConfig, plan: RoundPlan) -> int:
    """Without which this round makes no model: by what the job asks for, not by what was planned of that. FedPA's share
    is of those that are asked, who are fewer than usual while others still owe late work.
    """
    if plan.round == 0 or isinstance(config.mode, Grouped):  # one makes the first model; a group may be one client
        return 1
    usual = config.min_updates or (config.cohort + 1) // 2
    if config.aggregation is not None and config.mode is None:
        usual = min(usual, math.ceil(config.aggregation.min_share * len(plan.cohort)))
    return max(usual, config.least)


class Crash(Exception):  # noqa: N818 - it is what happens
    """The coordinator is gone."""


@dataclass
class FakeClient:
    """One data holder and its worker: trains what is wanted, keeps updates until it hears of them."""

    name: ClientId
    worker: str
    connected: bool = False
    wanted: dict[AssignmentId, Order] = field(default_factory=dict)
    held: dict[AssignmentId, UpdateStaged] = field(default_factory=dict)
    promoted: list[AssignmentId] = field(default_factory=list)
    trained: Counter[AssignmentId] = field(default_factory=Counter)


def metrics_by_round(order: OrderEvaluation) -> dict[str, float]:
    """A model gets better and better."""
    return {"accuracy": 1 - 1 / (order.round + 1), "loss": 1 / (order.round + 1)}


class FakeWorld:
    """Runs one job. `behave(client, order)` says what a client does: None hands in, a text raises with it."""

    def __init__(
        self,
        config: EngineConfig,
        behave: Callable[[ClientId, Order], str | None] = lambda client, order: None,  # noqa: ARG005
        measure: Callable[[OrderEvaluation], dict[str, float]] = metrics_by_round,
    ) -> None:
        self.config, self.behave, self.measure = config, behave, measure
        self.now = 1000.0
        self.clients = {name: FakeClient(name, f"worker-{name}") for name in config.clients}
        self.plans: dict[tuple[int, int], RoundPlan] = {}
        self.commits: list[RoundCommit] = []
        self.evaluations: list[EvaluationRecord] = []
        self.told: list[Tell] = []
        self.carried_out: list[Instruction] = []
        self.crash_in: int | None = None  # instructions from now
        self.says: dict[str, Any] = {}  # what is more in every update
        self.lacking: dict[ClientId, tuple[str, ...]] = {}  # layers that a client does not get to
        self.norm = 0.0  # of what a round's updates come to
        self.widths: tuple[int, ...] = ()  # of the first model, where its layers are matched
        self.slow_disk = False  # what is stored is only heard of when `hear_of_stores` is called
        self.start()

    # --- the coordinator ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """A coordinator starts on what is stored; every session of the one before is gone."""
        self.sum: dict[AssignmentId, float] | None = None
        self.completed: deque[Event] = deque()
        self.staged: dict[AssignmentId, UpdateStaged] = {}
        self.wake: float | None = None
        self.finish: Finish | None = None
        for client in self.clients.values():
            client.connected = False
            client.wanted.clear()
        history = History(tuple(self.commits), tuple(self.plans.values()), tuple(self.evaluations))
        self.state: JobState
        self._run(lambda: engine.start(self.config, history, self.now))

    def post(self, event: Event) -> None:
        self._run(lambda: engine.step(self.state, event, self.now))

    def _run(self, first: Callable[[], tuple[JobState, list[Instruction]]]) -> None:
        try:
            self._carry_out_all(*first())
        except Crash:
            self.crash_in = None
            self.start()

    def _carry_out_all(self, state: JobState, instructions: list[Instruction]) -> None:
        while True:
            self.state = state
            check_invariants(state)
            for instruction in instructions:
                self._die_if_due()
                event = self._carry_out(instruction)
                self.completed.extend([event] if event else [])
            if self.slow_disk or not self.completed:
                return
            state, instructions = engine.step(self.state, self.completed.popleft(), self.now)

    def hear_of_stores(self) -> None:
        while self.completed:
            self.post(self.completed.popleft())

    def _die_if_due(self) -> None:
        if self.crash_in is not None:
            if self.crash_in == 0:
                raise Crash
            self.crash_in -= 1

    def _carry_out(self, instruction: Instruction) -> Event | None:
        self.carried_out.append(instruction)
        match instruction:
            case StorePlan() | StoreCommit() | StoreEvaluation() | LoadFirstModel():
                return self._store(instruction)
            case OpenRound() | Fold():
                self._sum(instruction)
            case OrderTraining() | OrderInitialisation() | OrderEvaluation():
                self._order(instruction)
            case Accept() | Refuse() | Settle() | Withdraw():
                self._tell_client(instruction)
            case WakeAt() | Tell() | Finish():
                self._note(instruction)
        return None

    def _store(self, instruction: StorePlan | StoreCommit | StoreEvaluation | LoadFirstModel) -> Event:
        match instruction:
            case StorePlan(plan):
                assert (plan.round, plan.attempt) not in self.plans, "an attempt is planned twice"
                assert plan.round == len(self.commits), "a plan for a round that is not the next"
                self.plans[plan.round, plan.attempt] = plan
                return PlanStored(plan)
            case StoreEvaluation(record):
                assert record.round == len(self.commits) - 1
                self.evaluations.append(record)
                return EvaluationStored(record)
            case LoadFirstModel():
                return self._commit(StoreCommit(0, 0, "", (), {}, 0, self.now))
            case StoreCommit():
                return self._commit(instruction)

    def _sum(self, instruction: OpenRound | Fold) -> None:
        if isinstance(instruction, OpenRound):
            self.sum = {}
            return
        assignment = instruction.assignment
        assert self.sum is not None, "there is no sum to fold into"
        assert assignment not in self.sum, f"{assignment} is folded twice"
        assert assignment in self.staged, f"{assignment} is folded, but is not there"
        assert assignment not in self.used(), f"{assignment} is in an earlier round"
        self.sum[assignment] = instruction.weight

    def _note(self, instruction: WakeAt | Tell | Finish) -> None:
        match instruction:
            case WakeAt(when):
                self.wake = when
            case Tell():
                self.told.append(instruction)
            case Finish():
                self.finish = instruction

    def _commit(self, instruction: StoreCommit) -> Event:
        number = instruction.round
        assert number == len(self.commits), "rounds have a gap or a repeat"
        if instruction.used:
            assert {used.assignment: used.weight for used in instruction.used} == self.sum, "the record is not the sum"
            self._check_members(instruction)
        self.sum = None
        commit = RoundCommit(
            round=number,
            attempt=instruction.attempt,
            epoch=self.config.epoch,
            base=instruction.base,
            model=f"model-{number}",
            used=instruction.used,
            failed=instruction.failed,
            failed_attempts=instruction.failed_attempts,
            started_s=0.0,
            seconds=self.now - instruction.opened,
            bytes_up=sum(self.staged[used.assignment].size_bytes for used in instruction.used),
            bytes_down=0,
            owed=instruction.owed,
            stragglers=instruction.stragglers,
            reason=instruction.reason,
            norm=self.norm,
            widths=self.widths if number == 0 else (),
            matches={each.client: (1, 0) for each in instruction.used} if self.widths and number else {},
            absences=instruction.absences,
            is_rolling=instruction.is_rolling,
            profiled=instruction.profiled,
        )
        self.commits.append(commit)
        return RoundStored(commit)

    def _check_members(self, commit: StoreCommit) -> None:
        plan = self.plans[commit.round, commit.attempt]
        minimum = least_updates(self.config, plan)
        if commit.is_rolling:
            assert len(commit.used) >= minimum, "too few updates"
            assert len({used.client for used in commit.used}) == len(commit.used), "a client counts twice in a version"
            limit = self.config.late.max_staleness if self.config.late else 0
            assert all(0 <= commit.round - used.round <= limit for used in commit.used), "an update is too old"
            asked = {each.assignment for one in self.plans.values() for each in one.cohort}
            assert {used.assignment for used in commit.used} | set(commit.owed) <= asked
            assert not {used.assignment for used in commit.used} & set(commit.owed), "used work is still owed"
            return
        fresh = [used for used in commit.used if used.round == commit.round]
        assert len(fresh) >= minimum, "too few updates"
        assert {used.client for used in fresh} | commit.failed.keys() == {each.client for each in plan.cohort}
        assert {used.assignment for used in fresh} <= {each.assignment for each in plan.cohort}

    def used(self) -> list[AssignmentId]:
        return [used.assignment for commit in self.commits for used in commit.used]

    # --- what reaches a client ----------------------------------------------------------------------------------------

    def _order(self, order: Order) -> None:
        if not isinstance(order, OrderEvaluation):
            planned = {
                each.assignment: (each.client, each.seed) for plan in self.plans.values() for each in plan.cohort
            }
            assert planned[order.assignment] == (order.client, order.seed), "an order that no stored plan has"
        else:
            assert order.model == self.commits[order.round].model
        client = self.clients[order.client]
        if client.connected:
            client.wanted[order.assignment] = order

    def _tell_client(self, instruction: Accept | Refuse | Settle | Withdraw) -> None:
        name = instruction.assignment
        if isinstance(instruction, Settle):
            assert instruction.used == (name in self.used()), "a settlement that the records don't bear out"
        if not isinstance(instruction, Accept | Withdraw):
            self.staged.pop(name, None)
        client = self.clients[instruction.client]
        if not client.connected:
            return
        client.wanted.pop(name, None)
        if isinstance(instruction, Settle | Refuse):
            held = client.held.pop(name, None)
            if held and isinstance(instruction, Settle) and instruction.used:
                client.promoted.append(name)

    # --- what clients do ----------------------------------------------------------------------------------------------

    def join(self, *names: ClientId) -> None:
        """Each through its own worker, with what it holds."""
        for name in names or self.config.clients:
            client = self.clients[name]
            client.connected = True
            client.wanted.clear()
            self.post(ClientsJoined(client.worker, (name,), tuple(client.held)))

    def lose(self, name: ClientId, *, memory: bool = True) -> None:
        """The connection breaks; without `memory` the worker dies too."""
        client = self.clients[name]
        client.connected = False
        client.wanted.clear()
        if not memory:
            client.held.clear()
            client.worker += "'"
        self.post(ClientsLost((name,), "gone"))

    def work(self, name: ClientId) -> bool:
        """One piece of work, if there is any."""
        client = self.clients[name]
        if not client.connected or not client.wanted:
            return False
        order = next(iter(client.wanted.values()))
        outcome = self.behave(name, order)
        if outcome == "never":
            return False
        del client.wanted[order.assignment]
        if outcome is not None:
            rejected = outcome.startswith("rejected")
            self.post((UpdateRejected if rejected else WorkFailed)(name, order.assignment, outcome))
        elif isinstance(order, OrderEvaluation):
            examples = 0 if order.scope is Scope.CENTRAL and not self.measure(order) else 10
            self.post(EvaluationReported(name, order.assignment, examples, self.measure(order)))
        else:
            self.hand_in(name, order)
        return True

    def hand_in(self, name: ClientId, order: OrderTraining | OrderInitialisation) -> None:
        client = self.clients[name]
        if order.assignment not in client.held:
            client.trained[order.assignment] += 1
            examples = 10 + self.config.ordinals[name]
            steps = order.steps if isinstance(order, OrderTraining) and order.steps else 5
            says = {"metrics": {"loss": 1.0}, "size_bytes": 100, "missing": self.lacking.get(name, ())} | self.says
            update = UpdateStaged(name, order.assignment, examples, steps, **says)
            client.held[order.assignment] = update
        self.stage(client.held[order.assignment])

    def stage(self, update: UpdateStaged) -> None:
        self.staged[update.assignment] = update
        self.post(update)

    # --- time ---------------------------------------------------------------------------------------------------------

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.post(Tick())

    def run(self, *, most: int = 2000, names: Iterable[ClientId] | None = None) -> Finish:
        """Everybody works, one piece each in turn; when nobody can, time passes. Until the job ends."""
        names = list(names or self.config.clients)
        for _ in range(most):
            self.hear_of_stores()
            if self.finish is not None:
                return self.finish
            for name in self.config.clients:  # whom a crash has cut off comes back
                if name in names and not self.clients[name].connected:
                    self.join(name)
            worked = [self.work(name) for name in names]
            if not any(worked) and self.finish is None and all(self.clients[name].connected for name in names):
                assert self.wake is not None, f"nothing will ever happen: {self.state.phase}"
                self.now = max(self.now, self.wake)
                self.post(Tick())
        raise AssertionError(f"the job does not end: {self.state.phase}")
