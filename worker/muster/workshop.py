"""Does one assignment with the user's task: builds, trains, evaluates. Knows no network; what raises becomes TaskError.

The task is loaded when it is first needed, so that a task that can't be found is reported like one that raises: the
job hears of it by name, instead of missing a worker.
"""

from __future__ import annotations

import copy
import importlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from muster.arrays import check_layout, layout_of, load_private, load_values, read_private, read_values
from muster.balancing import Balance, Choice, balance_of, fitting, make_choice, measure
from muster.batches import size_of
from muster.client_state import of_model
from muster.errors import MusterError, TaskError
from muster.evaluation import Evaluated, mean_loss
from muster.loading import load_task
from muster.matching import Matcher, classes_of, matchable
from muster.orders import Matched, Sampling, Scope, SubModel
from muster.slopes import Ground, ground_of, slopes
from muster.submodels import Shrinker, resize
from muster.task import Client, Data, Shard, Task
from muster.team import ALONE, Team
from muster.training import Trained, Training, seeded
from muster.variates import corrections
from muster_spec.durations import duration_s
from muster_spec.work import BASE_LOSS, Work
from muster_wire.reduced import reduced
from muster_wire.submodel import Part
from muster_wire.values import Values, difference

T = TypeVar("T")


def _unheard(fraction: float) -> None:
    pass


class Hooks(NamedTuple):
    """Of a training: whether to give it up, asked before each step; how far it is, said after each; when it is over."""

    should_stop: Callable[[], bool]
    show: Callable[[float], None]
    stop_at: float = math.inf  # on the workshop's clock: no new step after it
    steps: int = 0  # to take, whatever the job's epochs; 0: as the job says
    sampling: Sampling | None = None  # how to choose examples; None: all of them
    matched: Matched | None = None  # the layer to train for; None: the model as it is
    within: Callable[[float], None] = _unheard  # how far through a step it is, where one may be cut short


log = logging.getLogger(__name__)

_ALL: Final = Shard()
SAMPLE: Final = 256  # examples whose loss is compared between models


@dataclass(frozen=True, slots=True)
class Trainee:
    """One client's training, done: the update, what is said with it, and the client's private state after it."""

    update: Values
    trained: Trained
    train_ms: int
    state_after: Mapping[str, Tensor] = field(default_factory=dict)
    rate: float = 0.0  # the learning rate of its steps


class Workshop:
    """The task of one job, with the model and the data that it has loaded so far. Trainings are timed by the clock.

    Where several ranks are one client, each has a workshop: for its shard of the client's data, or in a team.
    """

    def __init__(
        self, work: Work, clock: Callable[[], float] = time.monotonic, shard: Shard = _ALL, team: Team = ALONE
    ) -> None:
        self._work = work
        self._clock = clock
        self._shard = shard
        self._team = team
        self._task: Task | None = None
        self._pristine: nn.Module | None = None
        self._data: dict[str, Data] = {}
        self._shrinker: Shrinker | None = None
        self._step_s: dict[str, float] = {}  # of each client's last training
        self.device = pick_device()

    def prepare(self) -> None:
        """Import now what the first assignment would have to: until that comes there is nothing else to do, and its
        deadline counts. That is the task's own module, and what PyTorch puts off until an optimiser is made. What
        raises here raises again when an order needs it, and is reported then.
        """
        with suppress(Exception):
            if type(self._load()).train is Task.train:
                importlib.import_module("torch._dynamo")

    def initialise(self, seed: int, *, with_groups: bool = False) -> Values:
        """The first model, from a seed; its layout says which units may be left out, if that is wanted."""
        model = self._build(seed)
        layout = self._cutter().layout if with_groups else layout_of(model, self._load().private)
        if self._work.matches_layers:
            matchable(layout)
        return read_values(model, layout)

    def part(self, wanted: SubModel) -> Part:
        """What an order wants of this task's model."""
        return self._cutter().part(wanted)

    def load(self, client: Client) -> None:
        """Load what a training of this client needs, so that trouble with that comes before the training."""
        self._data_of(client)
        self._whole()

    def examples(self, client: Client) -> int:
        """How many examples there are to train on."""
        return size_of(self._data_of(client).train)

    def train(
        self,
        client: Client,
        base: Values,
        state: Mapping[str, Tensor],
        seed: int,
        hooks: Hooks,
        part: Part | None = None,
    ) -> Trainee | None:
        """Train on a client's data from a base model, or a part of one; None if the work was withdrawn on the way.

        What the state has under the variate's name is added to the gradients of each step. Where examples are chosen,
        it has what is known of them, too; and where layers are matched, those of the client's own.
        """
        if hooks.matched is not None:
            return self._train_matched(client, base, state, seed, hooks, hooks.matched)
        return self._train_whole(client, base, state, seed, hooks, part)

    def _train_whole(
        self,
        client: Client,
        base: Values,
        state: Mapping[str, Tensor],
        seed: int,
        hooks: Hooks,
        part: Part | None,
    ) -> Trainee | None:
        data = self._data_of(client)
        correction, kept, state = corrections(state, base), state, of_model(state)
        model = self._trainable(base, state, part)
        training = replace(self._training(seed, hooks), correction=correction, notes_losses=hooks.sampling is not None)
        started = self._clock()
        choice = self._choice(client, hooks.sampling, model, kept, seed) if hooks.sampling else None
        began, examples = self._clock(), choice.examples if choice else data.train
        measured = self._base_loss(model, data) if self._work.measures_base_loss else {}
        ground = self._ground(model, data, seed) if self._work.measures_slopes else None
        with _blame("train"):
            trained = _expect(Trained, self._load().train(model, examples, training), "train")
        if trained.steps:
            self._step_s[client.name] = (self._clock() - began) / trained.steps
        if trained.stopped:
            return None
        balance = self._weighed(choice, trained, model) if choice else None
        if ground is not None:
            measured |= slopes(ground, self._ground(model, data, seed))
        if balance is not None:
            measured |= balance.metrics
        trained = replace(trained, metrics={**trained.metrics, **measured})
        update = difference(read_values(model, base.layout), base)
        update = reduced(update, trained.missing) if trained.missing else update
        state_after = read_private(model, self._load().private)
        if part is not None:
            before = read_private(self._whole(), self._load().private) | dict(state)
            state_after = self._cutter().private_after(before, state_after, part)
        if balance is not None:
            state_after = {**state_after, **balance.tensors}
        train_ms = round(1000 * (self._clock() - started))
        return Trainee(update, trained, train_ms, state_after, self._work.local.learning_rate)

    def _train_matched(
        self, client: Client, base: Values, state: Mapping[str, Tensor], seed: int, hooks: Hooks, matched: Matched
    ) -> Trainee | None:
        """Train what is this client's own above the layers that are matched; the update is the next one's."""
        data, started, task = self._data_of(client), self._clock(), self._load()
        matcher = Matcher(self._cutter().layout)
        model = copy.deepcopy(self._whole())
        matcher.begin(model, base, state, matched)
        load_private(model, of_model(state))
        with _blame("train"):
            trained = _expect(Trained, task.train(model, data.train, self._training(seed, hooks)), "train")
        if trained.stopped:
            return None
        values = read_values(model, matcher.layout_of_phase(base.layout, matched.phase))
        with _blame("load_data"):
            classes = classes_of(data.train, matcher.classes)
        update = matcher.update(values, base.layout, matched.phase, classes)
        state_after = read_private(model, task.private) | matcher.state_after(values, state, matched)
        train_ms = round(1000 * (self._clock() - started))
        return Trainee(update, trained, train_ms, state_after, self._work.local.learning_rate)

    def _choice(
        self, client: Client, wanted: Sampling, model: nn.Module, state: Mapping[str, Tensor], seed: int
    ) -> Choice:
        """Which of the client's examples it trains on; their losses are measured where none are known."""
        data, local = self._data_of(client), self._work.local
        balance = balance_of(state, size_of(data.train))
        if balance is None:
            with _blame("losses"):
                balance = measure(self._load(), model, data.train, self.device)
        generator = torch.Generator().manual_seed(seed % 2**63)
        fits = fitting(wanted.finish_at - self._clock(), self._step_s.get(client.name), local)
        return make_choice(balance, wanted.threshold, fits, local, data.train, generator)

    def _weighed(self, choice: Choice, trained: Trained, model: nn.Module) -> Balance:
        """What is known after training. A task whose own loop says nothing of losses is measured once more."""
        if trained.losses is None:
            with _blame("losses"):
                measured = measure(self._load(), model, choice.examples, self.device)
            trained = replace(trained, losses=measured.losses)
        return choice.after(trained)

    def _base_loss(self, model: nn.Module, data: Data) -> dict[str, float]:
        """The loss of the model that came, on this client's own examples."""
        with _blame("loss"):
            return {BASE_LOSS: mean_loss(self._load(), model, data.train, self.device)}

    def _ground(self, model: nn.Module, data: Data, seed: int) -> Ground:
        """Where the model stands in the loss of a few of this client's examples."""
        with _blame("loss"):
            return ground_of(self._load(), model, _sample(data.train, seed), self._work.local.batch_size, self.device)

    def evaluate(self, client: Client, values: Values, state: Mapping[str, Tensor], scope: Scope) -> Evaluated:
        """Measure a model; of no examples if there is nothing to measure it on."""
        if scope is Scope.CENTRAL:
            with _blame("load_test_data"):
                dataset = self._load().load_test_data(client)
        else:
            dataset = self._data_of(client).validation
        if dataset is None:
            return Evaluated(0, {})
        with _blame("evaluate"):
            found = self._load().evaluate(self._model(values, state), dataset, self.device)
            return _expect(Evaluated, found, "evaluate")

    def losses(
        self, client: Client, models: Iterable[Values], state: Mapping[str, Tensor], seed: int, part: Part | None = None
    ) -> list[float]:
        """The loss of each model, or part of one, on the same few of a client's training examples."""
        sample = _sample(self._data_of(client).train, seed)
        return [self._loss(self._trainable(values, state, part), sample) for values in models]

    def _loss(self, model: nn.Module, dataset: Dataset[Any]) -> float:
        with _blame("evaluate"):
            found = _expect(Evaluated, self._load().evaluate(model, dataset, self.device), "evaluate")
        if "loss" not in found.metrics:
            raise TaskError("evaluate has to measure a metric named loss: codec AdaptiveTopK learns from it")
        return found.metrics["loss"]

    def _trainable(self, values: Values, state: Mapping[str, Tensor], part: Part | None) -> nn.Module:
        return self._model(values, state) if part is None else self._smaller(values, state, part)

    def _load(self) -> Task:
        if self._task is None:
            self._task = load_task(self._work.task)
        return self._task

    def _data_of(self, client: Client) -> Data:
        if client.name not in self._data:
            self._data[client.name] = self._read(client)
        return self._data[client.name]

    def _read(self, client: Client) -> Data:
        where = "load_data" if self._shard.count == 1 else "load_shard"
        with _blame(where):
            task = self._load()
            data = task.load_data(client) if self._shard.count == 1 else task.load_shard(client, self._shard)
            return _expect(Data, data, where)

    def _model(self, values: Values, state: Mapping[str, Tensor]) -> nn.Module:
        """A model of its own for each piece of work, so that nothing leaks from one client to another."""
        model = copy.deepcopy(self._whole())
        if self._work.matches_layers:
            resize(model, {spec.name: spec.shape for spec in values.layout.tensors})
        check_layout(layout_of(model, self._load().private), values.layout)
        load_values(model, values)
        load_private(model, state)
        return model

    def _smaller(self, values: Values, state: Mapping[str, Tensor], part: Part) -> nn.Module:
        """The same for a part of the model."""
        check_layout(part.layout, values.layout)
        model = copy.deepcopy(self._whole())
        load_private(model, state)
        self._cutter().shrink(model, part)
        load_values(model, values)
        return model

    def _whole(self) -> nn.Module:
        """The model as the task builds it: copied, never trained."""
        if self._pristine is None:
            self._pristine = self._build(self._work.seed)
        return self._pristine

    def _cutter(self) -> Shrinker:
        if self._shrinker is None:
            with _blame("droppable"):
                self._shrinker = Shrinker(self._whole(), self._load())
        return self._shrinker

    def _build(self, seed: int) -> nn.Module:
        with _blame("build_model"), seeded(seed, torch.device("cpu")):
            return _expect(nn.Module, self._load().build_model(), "build_model")

    def _training(self, seed: int, hooks: Hooks) -> Training:
        budget = self._work.local.time_budget
        until = self._clock() + duration_s(budget) if budget else math.inf
        return Training(
            local=self._work.local,
            seed=seed,
            device=self.device,
            clock=self._clock,
            proximal_mu=self._work.proximal_mu,
            wants_losses=self._work.wants_losses,
            deadline=min(until, hooks.stop_at),
            should_stop=hooks.should_stop,
            progress=hooks.show,
            measures_gradient_variance=self._work.measures_gradient_variance,
            steps=hooks.steps,
            is_layered=self._work.stops_between_layers,
            within=hooks.within,
            team=self._team,
        )


def _sample(dataset: Dataset[Any], seed: int) -> Dataset[Any]:
    """The same few examples whoever asks, another few with another seed."""
    drawn = torch.randperm(size_of(dataset), generator=torch.Generator().manual_seed(seed % 2**63))
    return Subset(dataset, drawn[:SAMPLE].tolist())


def pick_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def name_device(device: torch.device) -> str:
    """For people: ``cpu``, or ``cuda:0 NVIDIA H200``."""
    return f"{device} {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type


def _expect(kind: type[T], value: object, where: str) -> T:
    """What the user's method has answered, if it is what it should be."""
    if isinstance(value, kind):
        return value
    raise TaskError(f"{where} has to return a {kind.__module__}.{kind.__name__}, not a {type(value).__name__}")


@contextmanager
def _blame(where: str) -> Iterator[None]:
    """Whatever the user's code raises becomes one line that says where; the traceback goes to the worker's log."""
    try:
        yield
    except MusterError:
        raise
    except (Exception, SystemExit) as error:  # a script that was made a task may call sys.exit
        log.exception("the task raised in %s", where)
        text = next(iter(str(error).splitlines()), "")
        raise TaskError(f"{where} raised {type(error).__name__}: {text}".rstrip(": ")) from error
