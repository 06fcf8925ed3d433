"""The driver's ports with a stopwatch on them. The driver doesn't know: what it calls has the same shape."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from muster_coordinator.matching.phases import Phase
from muster_coordinator.metrics.phases import Mark
from muster_coordinator.ports import NO_CORRECTIONS, Corrections, Made, Models, Ports, Reporter, Store
from muster_coordinator.records import AssignmentId, EvaluationRecord, RoundCommit, RoundPlan
from muster_wire.chain import Audience


class Watcher(Protocol):
    """Hears what the driver does."""

    def passed(self, mark: Mark, number: int) -> None: ...

    def told(self, kind: str, details: Mapping[str, object]) -> None: ...

    def took(self, part: str, seconds: float) -> None: ...


def watched(ports: Ports, watcher: Watcher) -> Ports:
    """The same ports, watched."""
    timing = Timing(watcher, ports.clock.now)
    return replace(
        ports,
        store=WatchedStore(ports.store, watcher, timing),
        models=WatchedModels(ports.models, watcher, timing),
        reporter=WatchedReporter(ports.reporter, watcher),
    )


class Timing:
    """A stopwatch."""

    def __init__(self, watcher: Watcher, now: Callable[[], float]) -> None:
        self._watcher = watcher
        self._now = now

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Tell how long what follows took, unless it fails."""
        began = self._now()
        yield
        self._watcher.took(part, self._now() - began)


class WatchedStore:
    """A store whose writes are timed."""

    def __init__(self, store: Store, watcher: Watcher, timing: Timing) -> None:
        self._store = store
        self._watcher = watcher
        self._timing = timing

    def save_plan(self, plan: RoundPlan) -> None:
        self._watcher.passed(Mark.PLANNING, plan.round)
        with self._timing.of("plan"):
            self._store.save_plan(plan)

    def save_commit(self, commit: RoundCommit) -> None:
        with self._timing.of("commit"):
            self._store.save_commit(commit)

    def save_evaluation(self, record: EvaluationRecord) -> None:
        with self._timing.of("evaluation"):
            self._store.save_evaluation(record)


class WatchedModels:
    """Models whose making is timed."""

    def __init__(self, models: Models, watcher: Watcher, timing: Timing) -> None:
        self._models = models
        self._watcher = watcher
        self._timing = timing

    def open(self, base: str, number: int, phase: Phase | None = None) -> None:
        self._models.open(base, number, phase)

    def fold(self, assignment: AssignmentId, weight: float, beside: float = 0.0) -> None:
        self._models.fold(assignment, weight, beside)

    def forget(self, assignment: AssignmentId) -> None:
        self._models.forget(assignment)

    def make(self, number: int, scale: float = 1.0, corrections: Corrections = NO_CORRECTIONS) -> Made:
        self._watcher.passed(Mark.MAKING, number)
        with self._timing.of("model"):
            return self._models.make(number, scale, corrections)

    def load_first(self, path: str) -> Made:
        return self._models.load_first(path)

    def publish(self, model: str, number: int, audience: Audience) -> None:
        self._models.publish(model, number, audience)

    def prune(self, keep: Collection[str]) -> None:
        self._models.prune(keep)


class WatchedReporter:
    """A reporter with somebody who listens in."""

    def __init__(self, reporter: Reporter, watcher: Watcher) -> None:
        self._reporter = reporter
        self._watcher = watcher

    def tell(self, kind: str, details: Mapping[str, object]) -> None:
        self._reporter.tell(kind, details)
        self._watcher.told(kind, details)
