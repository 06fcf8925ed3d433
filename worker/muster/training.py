"""The ready local loop: what a client does between fetching a model and submitting its update.

Everything that decides the result comes in as an argument, the clock included: the same seed on the same device gives
the same bits, and a test can let the time budget run out without waiting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from muster.batches import Batch, batches, size_of
from muster.errors import TaskError
from muster.layers import Layers
from muster.task import Task
from muster.team import ALONE, Team
from muster_spec.types import Local, Optimizer
from muster_spec.work import GRADIENT_VARIANCE, LOSS

_CHECK_EVERY = 50  # steps between looks at the loss: each look waits for the device


def _never() -> bool:
    return False


def _unheard(fraction: float) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Training:
    """How to train: the job's local settings, and what is special to one assignment.

    `proximal_mu` is FedProx's μ (0: plain FedAvg). `deadline` is a reading of `clock` after which no new step is begun;
    `should_stop` is asked before each step, because the work may no longer be wanted. With `wants_losses` the metric
    `lossRms` says the root of the mean square over the examples' losses (Oort, Lai et al. 2021, equation 1).
    `measures_gradient_variance` asks for a metric of that name: how far the steps' gradients lie apart. `correction` is
    what SCAFFOLD adds to each step's gradient, by parameter: c - c_i. `steps` are to be taken whatever the epochs say.
    With `notes_losses` the result has each example's last loss. `is_layered`: a step that the deadline cuts short is
    taken by the layers that are done; `within` hears how far through a step it is. `team` are those who do each step
    together.
    """

    local: Local
    seed: int
    device: torch.device
    clock: Callable[[], float]
    proximal_mu: float = 0.0
    deadline: float = math.inf
    wants_losses: bool = False
    should_stop: Callable[[], bool] = _never
    progress: Callable[[float], None] = _unheard
    measures_gradient_variance: bool = False
    correction: Mapping[str, Tensor] = field(default_factory=dict)
    steps: int = 0
    notes_losses: bool = False
    is_layered: bool = False
    within: Callable[[float], None] = _unheard
    team: Team = ALONE


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of it: the update's weight, the steps really done, and means over the last pass.

    `stopped` says that the work was withdrawn, so that nobody wants the result; a time budget that ran out or a limit
    of steps leaves it False: the result is smaller, and good.
    """

    examples: int
    steps: int
    metrics: dict[str, float] = field(default_factory=dict)
    stopped: bool = False
    losses: Tensor | None = None  # of each example, as it was last seen; nan: not seen
    missing: tuple[str, ...] = ()  # parameters that no step has touched, as there was no time for their layers


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's random numbers (initial values, dropout) follow from this seed inside, and are as they were after."""
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed % 2**63)
        yield


def train(task: Task, model: nn.Module, dataset: Dataset[Any], training: Training) -> Trained:
    """Train a model in place on one client's examples.

    Each step goes down the gradient of h(w) = F(w) + μ/2·‖w − w₀‖² (Li et al. 2020, "Federated optimization in
    heterogeneous networks", eq. 2), where w₀ are the values that the model comes with and the norm is over the
    trainable parameters. The gradient of the whole is clipped to the given norm, if there is one.

    Raises:
        TaskError: the loss is no longer finite, or the data set can't be used.
    """
    size = size_of(dataset)
    model.to(training.device).train()
    with seeded(training.seed + training.team.rank, training.device):  # other masks of dropout on each rank
        loop = _Loop(task, model, dataset, training)
        steps, metrics, stopped = loop.run(size)
        loop.close()
    return Trained(size, steps, metrics, stopped, loop.losses, loop.missing)


class _Loop:
    """One run of the local loop: the model, its optimiser and where it started from."""

    def __init__(self, task: Task, model: nn.Module, dataset: Dataset[Any], training: Training) -> None:
        local = training.local
        self._task, self._model, self._training = task, model, training
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not self._parameters:
            raise TaskError("build_model: no parameter requires a gradient, so there is nothing to train")
        self._corrected = [
            (parameter, training.correction[name].to(parameter))
            for name, parameter in model.named_parameters()
            if name in training.correction
        ]
        self._optimizer = build_optimizer(local.optimizer, self._parameters, local.learning_rate)
        self._anchor = [p.detach().clone() for p in self._parameters] if training.proximal_mu else None
        shuffle = torch.Generator().manual_seed(training.seed % 2**63)
        batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())  # noqa: SLF001
        self.losses = torch.full((size_of(dataset),), math.nan) if training.notes_losses else None
        self._places: Tensor | None = None  # of the batch's examples
        self._pass = batches(
            dataset, local.batch_size, training.device, shuffle, merge=batch_norm, note=self._note_places
        )
        self._forward = training.team.wrap(model)
        self._layers = Layers(model, self._is_late, training.within) if training.is_layered else None
        self._steps = 0
        self._squares, self._seen = torch.zeros((), device=training.device), 0
        self._spread = GradientSpread() if training.measures_gradient_variance else None

    @property
    def missing(self) -> tuple[str, ...]:
        """Parameters that no step has touched."""
        return self._layers.missing if self._layers else ()

    def close(self) -> None:
        """Leave the model as any other."""
        if self._layers:
            self._layers.close()

    def _is_late(self) -> bool:
        return self._training.clock() >= self._training.deadline

    def run(self, size: int) -> tuple[int, dict[str, float], bool]:
        local = self._training.local
        planned = local.epochs * math.ceil(size / local.batch_size)
        limit = self._training.steps or min(planned, local.max_steps or planned)
        mean = math.nan
        for _ in range(limit if self._training.steps else local.epochs):  # a pass does one step at least
            total, count, on = self._epoch(limit)
            mean = total / count if count else mean
            if not on:
                break
        return self._steps, self._metrics(mean), self._training.should_stop()

    def _metrics(self, loss: float) -> dict[str, float]:
        metrics = {LOSS: loss} if self._steps else {}
        if self._training.wants_losses:
            seen = self._training.team.mean(torch.tensor(float(self._seen), dtype=torch.float64)).item()
            squares = self._training.team.mean(self._squares).item()
            metrics |= {"lossRms": math.sqrt(squares / seen)} if seen else {}
        variance = self._spread.variance if self._spread else None
        return metrics if variance is None else metrics | {GRADIENT_VARIANCE: variance}

    def _epoch(self, limit: int) -> tuple[float, int, bool]:
        """The sum of the losses, the number of steps, and whether to go on."""
        total = torch.zeros((), device=self._training.device)
        self._squares.zero_()
        self._seen = 0
        for count, (inputs, targets) in enumerate(self._pass()):
            if not self._may_step(limit):
                return self._finite(total), count, False
            loss, is_whole = self._step((inputs, targets))
            total += loss
            if not is_whole:
                self._steps = max(self._steps, 1)  # a part of the first one is a step, too
                return self._finite(total), count + 1, False
            self._steps += 1
            if self._steps % _CHECK_EVERY == 0:
                self._finite(total)
            self._training.progress(self._steps / limit)
        return self._finite(total), count + 1, self._steps < limit

    def _may_step(self, limit: int) -> bool:
        """A client that has run out of time still does one step: some work is better than none."""
        training = self._training
        in_time = self._steps == 0 or training.clock() < training.deadline
        return self._steps < limit and training.team.agree(may=in_time and not training.should_stop())

    def _step(self, batch: Batch) -> tuple[Tensor, bool]:
        """The loss, and whether there was time for all layers."""
        (inputs, targets), factor = self._training.team.part(batch)
        self._optimizer.zero_grad()
        outputs = self._forward(inputs)
        loss = self._task.loss(outputs, targets)
        if (self._training.wants_losses or self.losses is not None) and factor:
            self._note_losses(outputs, targets)
        loss = loss if factor == 1 else loss * factor
        is_whole = self._backward(loss)
        if self._spread is not None and is_whole:
            self._spread.add(self._parameters)
        if self._anchor is not None:
            self._pull(self._anchor)
        clip = self._training.local.gradient_clip_norm
        if clip is not None:
            nn.utils.clip_grad_norm_(self._parameters, clip)
        for parameter, correction in self._corrected:
            parameter.grad = correction.clone() if parameter.grad is None else parameter.grad.add_(correction)
        self._optimizer.step()
        return loss.detach(), is_whole

    def _backward(self, loss: Tensor) -> bool:
        if self._layers is None:
            loss.backward()  # type: ignore[no-untyped-call]
            return True
        is_whole = self._layers.backward(loss)
        if not is_whole:
            self._layers.keep_whole(self._parameters)
        return is_whole

    def _note_losses(self, outputs: Tensor, targets: Tensor) -> None:
        with torch.no_grad():
            losses = self._task.losses(outputs, targets)
        if self.losses is not None and self._places is not None:
            self.losses[self._places] = losses.float().cpu()
        if self._training.wants_losses:
            self._squares += losses.square().sum()
            self._seen += len(targets)

    def _note_places(self, places: Tensor) -> None:
        self._places = places

    def _pull(self, anchor: list[Tensor]) -> None:
        """Add μ·(w − w₀), the gradient of the proximal term."""
        for parameter, start in zip(self._parameters, anchor, strict=True):
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - start, alpha=self._training.proximal_mu)

    def _finite(self, total: Tensor) -> float:
        value = self._training.team.mean(total).item()
        if math.isfinite(value):
            return value
        rate = self._training.local.learning_rate
        raise TaskError(
            f"training diverged: the loss was no longer finite by step {self._steps}; spec.local.learningRate {rate:g}"
            " is the likely cause: try a smaller one, or set spec.local.gradientClipNorm"
        )


class GradientSpread:
    """How far the gradients g of a client's steps lie from their mean: Σ ‖g - ḡ‖² / (T - 1), over the whole model.

    By Welford's recurrence (1962), so that it takes one gradient more of memory, and nothing cancels.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean: list[Tensor] = []
        self._squares: Tensor | None = None

    def add(self, parameters: list[nn.Parameter]) -> None:
        """One step's gradients, as they are now."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        if self._squares is None:
            self._mean = [torch.zeros_like(gradient) for gradient in gradients]
            self._squares = torch.zeros((), dtype=torch.float64, device=gradients[0].device)
        self._count += 1
        for mean, gradient in zip(self._mean, gradients, strict=True):
            before = gradient - mean
            mean.add_(before, alpha=1 / self._count)
            self._squares += (before * (gradient - mean)).sum(dtype=torch.float64)

    @property
    def variance(self) -> float | None:
        """None of fewer than two gradients."""
        if self._squares is None or self._count < 2:
            return None
        return max(self._squares.item(), 0.0) / (self._count - 1)


def build_optimizer(optimizer: Optimizer, parameters: list[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    """The local optimiser, fresh: its state lives for one assignment."""
    decay = optimizer.weight_decay
    match optimizer.type:
        case "SGD":
            return torch.optim.SGD(parameters, lr=rate, momentum=optimizer.momentum, weight_decay=decay)
        case "Adam":
            return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
        case "AdamW":
            return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
