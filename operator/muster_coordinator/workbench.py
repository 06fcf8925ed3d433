"""Where models are made: staged updates go in, stored and published models come out.

This is the `Models` port of production. The newest model is mapped from its stored file, so the page cache holds it and
not this process; the sum is the one model's worth of memory that a round needs, and encoding the next version briefly
another, after the sum is gone.
"""

from __future__ import annotations

import math
import mmap
import os
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from muster_coordinator.broadcast import Broadcasts
from muster_coordinator.combining import MEAN, Combining
from muster_coordinator.compared import Compared
from muster_coordinator.controlled import ControlledSum
from muster_coordinator.errors import InputError
from muster_coordinator.instructions import OrderTraining
from muster_coordinator.layered import LayeredSum
from muster_coordinator.matching.phases import Phase
from muster_coordinator.matching.rows import MatchedRows
from muster_coordinator.models import ModelFileError, StoredModel, read_first_model, views, write_model
from muster_coordinator.parts import Parts
from muster_coordinator.ports import NO_CORRECTIONS, Corrections, Made
from muster_coordinator.records import AssignmentId, RoundCommit
from muster_coordinator.serverstate import ServerState
from muster_coordinator.staging import Upload
from muster_coordinator.store import FileStore
from muster_coordinator.strategies import Step, Strategy, Wide, remembering
from muster_coordinator.sums import Sum
from muster_coordinator.tensorfile import TensorFileError, read_contents
from muster_wire.chain import Audience
from muster_wire.control import with_control
from muster_wire.errors import WireError
from muster_wire.layout import Layout
from muster_wire.matching import chain_of, widths_of
from muster_wire.payload import decode
from muster_wire.submodel import Part
from muster_wire.values import Values

KEEP_AT_LEAST = 2  # a newest model that is damaged must leave one to fall back to


@dataclass(frozen=True, slots=True)
class Retention:
    """Which models stay in the store, beside the best: the newest few, and each n-th for good."""

    keep: int
    every: int | None

    def is_for_good(self, number: int) -> bool:
        return self.every is not None and number > 0 and number % self.every == 0


class Measured:
    """How long the mean update is, added up while its blocks pass by."""

    def __init__(self) -> None:
        self._squares = 0.0

    @property
    def norm(self) -> float:
        return math.sqrt(self._squares)

    def before(self, step: Step) -> Step:
        """The same step, on blocks that are looked at first."""

        def seen(base: Wide, mean: Wide) -> Wide:
            self._squares += float(np.vdot(mean, mean))
            return step(base, mean)

        return seen


class Workbench:
    """Called by the driver's thread; `stage` and `layout` by the server's loop as well."""

    def __init__(
        self,
        store: FileStore,
        strategy: Strategy,
        broadcasts: Broadcasts,
        retention: Retention,
        combining: Combining = MEAN,
        problem: Callable[[Layout], str | None] = lambda layout: None,  # noqa: ARG005 -- with any model
        parts: Parts | None = None,
    ) -> None:
        self._store = store
        if combining.rule is not None and combining.rule.starts_from_last:
            strategy = replace(strategy, optimizer=remembering(strategy.optimizer))
        self._state = ServerState(store, strategy, max(retention.keep, KEEP_AT_LEAST))
        self._combining = combining
        self._problem = problem
        self._parts = parts
        self._broadcasts = broadcasts
        self._retention = retention
        self._recent: deque[str] = deque(maxlen=max(retention.keep, KEEP_AT_LEAST))
        self._for_good: set[str] = set()
        self._stored: set[str] = set()  # by this coordinator, or before it started
        self._staged: dict[AssignmentId, Upload] = {}
        self._name = ""
        self._model: Values | None = None
        self._sum: Sum | Compared | MatchedRows | None = None
        self._first: Values | None = None

    # --- updates ------------------------------------------------------------------------------------------------------

    @property
    def layout(self) -> Layout | None:
        """Of the model that updates are made for; None before there is a first one."""
        return self._model.layout if self._model is not None else None

    @property
    def trains_parts(self) -> bool:
        """Whether clients train parts of the model, so that a first model has to say what it is made of."""
        return self._parts is not None

    @property
    def matches_layers(self) -> bool:
        """Whether layers are matched one after the other, so that a first model has to be a chain of them."""
        return self._combining.matching is not None

    @property
    def update_layout(self) -> Layout | None:
        """Of updates that are not of a part: the model's, or that of the layer that is matched in this round."""
        return self._sum.layout if isinstance(self._sum, MatchedRows) else self.layout

    @property
    def sums_layers(self) -> bool:
        """Whether an update may lack layers."""
        return self._combining.of_layers

    def part(self, order: OrderTraining) -> Part | None:
        """Which part of the model the update has to be of that answers this order; None: it is of the whole."""
        return self._parts.part(self._model.layout, order) if self._parts and self._model else None

    def stage(self, assignment: AssignmentId, upload: Upload) -> None:
        """A complete and checked upload, until it is folded or forgotten."""
        self.forget(assignment)
        self._staged[assignment] = upload

    def forget(self, assignment: AssignmentId) -> None:
        upload = self._staged.pop(assignment, None)
        if upload is not None:
            upload.close()

    # --- a round ------------------------------------------------------------------------------------------------------

    def open(self, base: str, number: int, phase: Phase | None = None) -> None:
        if base != self._name:
            self.load(base)
        self._first = None
        if isinstance(self._sum, Compared | MatchedRows):  # of an attempt that failed
            self._sum.close()
        self._sum = None
        if self._parts and self._model:
            self._parts.publish(self._model, number)  # before there is a sum: encoding needs about as much memory
        if self._model is not None:
            self._sum = self._combining.open(self._model.layout, self._store.staging, phase)

    def fold(self, assignment: AssignmentId, weight: float, beside: float = 0.0) -> None:
        with self._staged.pop(assignment) as upload:
            if self._sum is None:
                self._first = decode(upload.shape, upload.view())
                return
            self._sum.fold(upload, weight)
            if isinstance(self._sum, ControlledSum):
                self._sum.fold_beside(upload, beside)

    def make(self, number: int, scale: float = 1.0, corrections: Corrections = NO_CORRECTIONS) -> Made:
        if self._model is None or self._sum is None:
            return self._made_first(number)
        total, self._sum = self._sum, None
        if isinstance(total, MatchedRows):
            made, matches = total.finish(self._model, number)
            return Made(self._keep(made, number), matches=matches)
        mean = Measured()
        made = self._finished(self._model, total, scale, corrections, mean)
        return Made(self._keep(made, number), self._state.keep(), mean.norm)

    def _made_first(self, number: int) -> Made:
        first, self._first = self._first, None
        if first is None:
            raise ValueError("a model is made from at least one update")
        widths = widths_of(first.layout, chain_of(first.layout)) if self.matches_layers else ()
        return Made(self._keep(first, number), self._state.keep(), widths=widths)

    def _finished(
        self, base: Values, total: Sum | Compared, scale: float, corrections: Corrections, mean: Measured
    ) -> Values:
        """The next model; what the server keeps has taken its step with it, but is not durable yet."""
        taken, step = total.folded, mean.before(self._state.begin(base.layout, scale))
        if isinstance(total, LayeredSum):
            return total.finish(base, step, corrections)
        if isinstance(total, Compared):
            return total.finish(base, step, self._state.last_mean)
        made = total.finish(base, step)
        if isinstance(total, ControlledSum):
            self._state.move_control(base.layout, total.beside, taken)
        return made

    def load_first(self, path: str) -> Made:
        first = read_first_model(Path(path))
        if problem := self._problem(first.layout):
            raise InputError(problem)
        return Made(self._keep(first, 0))

    def _keep(self, made: Values, number: int) -> str:
        digest = made.digest()
        model = StoredModel(made, number, digest)
        path = self._store.save_model(digest, lambda file: write_model(file, model))
        self._name, self._model = digest, _mapped(path, made.layout)
        self._remember(digest, number)
        return digest

    # --- stored models ------------------------------------------------------------------------------------------------

    def remember(self, commits: Sequence[RoundCommit]) -> list[str]:
        """What was kept before this coordinator started, and what is odd about it, for people."""
        models = {commit.round: commit.model for commit in commits}
        for number, digest in models.items():
            self._remember(digest, number)
        self._state.remember(commit.server_state for commit in commits)
        return self._broadcasts.restore(models, self.layout) if self.layout else []

    def _remember(self, digest: str, number: int) -> None:
        self._stored.add(digest)
        if digest not in self._recent:
            self._recent.append(digest)
        if self._retention.is_for_good(number):
            self._for_good.add(digest)

    def take_up(self, commit: RoundCommit) -> None:
        """Go on from this round. ModelFileError where its model, or what is kept with it, isn't what was stored."""
        self.load(commit.model)
        if self._model is not None:
            self._state.load(commit, self._model.layout)

    def load(self, digest: str) -> None:
        """Take a stored model up. ModelFileError if it is not what was stored."""
        path = self._store.model_path(digest)
        model = _mapped(path, None)
        if model.digest() != digest:
            raise ModelFileError(f"{path}: its content doesn't have its digest any more")
        self._name, self._model = digest, model

    def publish(self, model: str, number: int, audience: Audience) -> None:
        if model != self._name or self._model is None:
            self.load(model)
        if self._model is not None:
            control = self._state.control(self._model.layout)
            version = self._model if control is None else with_control(self._model, control)
            self._broadcasts.publish(model, version, number, audience)

    def prune(self, keep: Collection[str]) -> None:
        """Forget what is not kept any more. Models that are not of this history are another coordinator's to prune."""
        dropped = self._stored - {*keep, *self._recent, *self._for_good}
        self._stored -= dropped
        self._store.remove_models(dropped)
        self._state.prune()


def _mapped(path: Path, layout: Layout | None) -> Values:
    """A stored model as read-only views of its file. Its layout is read from the file where it is not known."""
    try:
        with path.open("rb") as file:
            contents = read_contents(file, os.fstat(file.fileno()).st_size)
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ModelFileError(f"{path}: can't be read: {error.strerror}") from error
    except (TensorFileError, ValueError) as error:
        raise ModelFileError(f"{path}: {error}") from error
    try:
        known = layout or Layout.from_json(contents.metadata.get("muster.layout", ""))
        return views(known, data, contents.data_start)
    except (WireError, ValueError) as error:
        raise ModelFileError(f"{path}: not a model that Muster stored: {error}") from error
