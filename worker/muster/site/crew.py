"""One rank's part of an errand, the same on every rank: do it, hear from the others, put the results together.

A rank that fails says so and goes on taking part, so that nobody waits for it and rank 0 can say whose trouble it was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, Protocol

import msgspec
import numpy as np
from torch import Tensor

from muster.errors import MusterError, RankLostError, TaskError
from muster.evaluation import Evaluated
from muster.orders import Scope, SubModel
from muster.site.errands import load_tensors, save_tensors
from muster.site.fabric import Fabric
from muster.site.reduction import Report, first_error, mean_metrics, reduce_update, trained_together
from muster.site.states import all_states, own_state, rank_seed
from muster.task import Client, Shard
from muster.team import Team
from muster.workshop import Hooks, Trainee, Workshop
from muster_spec.work import Work
from muster_wire.checksum import checksum128
from muster_wire.errors import WireError
from muster_wire.submodel import Part
from muster_wire.values import Values

log = logging.getLogger(__name__)

State = Mapping[str, Tensor]
_TROUBLE = (MusterError, WireError)
_PATIENCE_S: Final = 30.0  # of a rank that failed within a step, for the others to come out of theirs


class Crew(Protocol):
    """How the ranks of a site do one client's work. All ranks call alike; what comes of it counts at rank 0."""

    @property
    def workshop(self) -> Workshop:
        """This rank's own."""

    @property
    def is_sharded(self) -> bool:
        """Whether each rank has examples of its own to measure on; else rank 0 measures alone, on all of them."""

    def train(
        self, client: Client, base: Values, state: State, seed: int, hooks: Hooks, wanted: SubModel | None
    ) -> Trainee | None:
        """What a workshop's does, for a part of the model if one is wanted. TaskError names the rank."""

    def evaluate(self, client: Client, values: Values, state: State) -> Evaluated:
        """The same on what the client holds out."""

    def losses(
        self, client: Client, models: Sequence[Values], state: State, seed: int, wanted: SubModel | None
    ) -> list[float]: ...


class Averaging:
    """Each rank trains on its shard, and their updates are averaged by examples: FedAvg inside the site."""

    is_sharded = True

    def __init__(self, fabric: Fabric, work: Work) -> None:
        self._fabric = fabric
        self._local = work.local
        self._shard = Shard(fabric.rank, fabric.size)
        self.workshop = Workshop(work, shard=self._shard)

    def train(
        self, client: Client, base: Values, state: State, seed: int, hooks: Hooks, wanted: SubModel | None
    ) -> Trainee | None:
        seed = rank_seed(seed, self._shard.index)
        mine = self._own(client, state)
        trainee, report = _attempt(
            lambda: self.workshop.train(client, base, mine, seed, hooks, _part(self.workshop, wanted))
        )
        reports = _exchange(self._fabric, report)
        if trainee is None or any(each.stopped for each in reports):
            return None
        return self._together(trainee, reports, hooks.steps)

    def _together(self, trainee: Trainee, reports: Sequence[Report], ordered: int) -> Trainee:
        trained = trained_together(reports, self._local, ordered)
        reduce_update(self._fabric, trainee.update, trainee.trained.examples, trained.examples)
        states = [load_tensors(data) for data in self._fabric.exchange(save_tensors(trainee.state_after))]
        train_ms = max(report.train_ms for report in reports)
        return Trainee(trainee.update, trained, train_ms, all_states(states), trainee.rate)

    def evaluate(self, client: Client, values: Values, state: State) -> Evaluated:
        """Each rank measures on what its shard holds out."""
        found, report = Evaluated(0, {}), Report()
        try:
            found = self.workshop.evaluate(client, values, self._own(client, state), Scope.LOCAL)
            report = Report(examples=found.examples, metrics=found.metrics)
        except _TROUBLE as trouble:
            report = Report(error=str(trouble))
        parts = [(each.examples, each.metrics) for each in _exchange(self._fabric, report)]
        return Evaluated(sum(examples for examples, _ in parts), mean_metrics(parts))

    def losses(
        self, client: Client, models: Sequence[Values], state: State, seed: int, wanted: SubModel | None
    ) -> list[float]:
        """Each model's loss, on a few of the training examples of each rank, weighted by how many these stand for."""
        report = Report()
        try:
            found = self.workshop.losses(client, models, self._own(client, state), seed, _part(self.workshop, wanted))
            named = {str(number): loss for number, loss in enumerate(found)}
            report = Report(examples=self.workshop.examples(client), metrics=named)
        except _TROUBLE as trouble:
            report = Report(error=str(trouble))
        means = mean_metrics([(each.examples, each.metrics) for each in _exchange(self._fabric, report)])
        return [means[str(number)] for number in range(len(models))]

    def _own(self, client: Client, state: State) -> State:
        own = own_state(state, self._shard)
        if state and not own and self._shard.index == 0:
            log.warning("%s: its state is of another number of ranks; each starts its own anew", client.name)
        return own


class DataParallel:
    """All ranks do each step together, on a part of each batch: one client on several devices."""

    is_sharded = False

    def __init__(self, fabric: Fabric, work: Work, team: Team) -> None:
        self._fabric = fabric
        self.workshop = Workshop(work, team=team)

    def train(
        self, client: Client, base: Values, state: State, seed: int, hooks: Hooks, wanted: SubModel | None
    ) -> Trainee | None:
        self._load(client)
        trainee, report = _attempt(
            lambda: self.workshop.train(client, base, state, seed, hooks, _part(self.workshop, wanted))
        )
        if trainee is not None:
            report = msgspec.structs.replace(report, digest=checksum128(trainee.update.trainable.data))
        with _impatient(self._fabric, report.error):
            reports = _exchange(self._fabric, report)
        if trainee is None or any(each.stopped for each in reports):
            return None
        _check_equal(reports)
        return replace(trainee, train_ms=max(each.train_ms for each in reports))

    def evaluate(self, client: Client, values: Values, state: State) -> Evaluated:
        return self.workshop.evaluate(client, values, state, Scope.LOCAL)

    def losses(
        self, client: Client, models: Sequence[Values], state: State, seed: int, wanted: SubModel | None
    ) -> list[float]:
        return self.workshop.losses(client, models, state, seed, _part(self.workshop, wanted))

    def _load(self, client: Client) -> None:
        """What can go wrong on one rank alone goes wrong before the steps: in them, the others would wait for it."""
        error = ""
        try:
            self.workshop.load(client)
        except _TROUBLE as trouble:
            error = str(trouble)
        _exchange(self._fabric, Report(error=error))


def _part(workshop: Workshop, wanted: SubModel | None) -> Part | None:
    return workshop.part(wanted) if wanted else None


def _attempt(train: Callable[[], Trainee | None]) -> tuple[Trainee | None, Report]:
    """A training, and what is to be said of it."""
    try:
        trainee = train()
        if trainee is None:
            return None, Report(stopped=True)
        _check_finite(trainee.update)
    except RankLostError:
        raise
    except _TROUBLE as trouble:
        return None, Report(error=str(trouble))
    trained = trainee.trained
    return trainee, Report(trained.examples, trained.steps, trained.metrics, trainee.train_ms)


def _check_finite(update: Values) -> None:
    if not all(np.isfinite(buffer).all() for buffer in (update.trainable, update.float_buffers)):
        raise TaskError("its update has values that are not finite")


def _exchange(fabric: Fabric, report: Report) -> list[Report]:
    """What every rank reports; TaskError of the first that has one."""
    reports = [msgspec.json.decode(each, type=Report) for each in fabric.exchange(msgspec.json.encode(report))]
    error = first_error(reports)
    if error:
        raise TaskError(error)
    return reports


@contextmanager
def _impatient(fabric: Fabric, error: str) -> Iterator[None]:
    """With an error, the others are not waited for long: they may wait for this rank, in the middle of a step."""
    before, until = fabric.watch, time.monotonic() + _PATIENCE_S

    def watch() -> None:
        before()
        if error and time.monotonic() > until:
            raise RankLostError(f"this rank failed in the middle of a step, where the others wait for it: {error}")

    fabric.watch = watch
    try:
        yield
    finally:
        fabric.watch = before


def _check_equal(reports: Sequence[Report]) -> None:
    odd = next((rank for rank, report in enumerate(reports) if report.digest != reports[0].digest), None)
    if odd is not None:
        raise TaskError(
            f"train left other values on rank {odd} than on rank 0: under torch.distributed a loop of one's own"
            " has to use training.team (wrap, part, agree)"
        )
