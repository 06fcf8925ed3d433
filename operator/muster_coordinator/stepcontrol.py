"""How many local steps each client takes in a round, where that is learnt while the job runs (local.stepControl).

A controller is a frozen value of one pure function: the pace after one more committed round. The pace is a fold over
the commits, so a coordinator that comes back goes on where the one before it was; each round's number of steps stands
in its plan, so work that is asked again after a restart is the same work. Every client of a round takes as many.

What comes in are claims of clients, held against bounds: one that lies moves the number of steps within the manifest's
limits, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from muster_coordinator.records import RoundCommit, UsedUpdate
from muster_spec.types import Local
from muster_spec.work import BASE_LOSS, GRADIENT_SLOPE, LOSS_SLOPE

GROWTH: Final = 10  # by how much a search may go beyond the last number of steps: γ of Wang et al.
_LEAST, _MOST = 1e-12, 1e12  # of a claim


@dataclass(frozen=True, slots=True)
class Pace:
    """For the next round. `is_spent`: there is no budget left for one; `first_loss`: of the first model."""

    steps: int
    is_spent: bool = False
    first_loss: float | None = None


class StepControl(Protocol):
    """One way to choose the steps."""

    @property
    def first(self) -> Pace:
        """Of the first round."""

    def after(self, pace: Pace, commit: RoundCommit, spent_s: float) -> Pace:
        """The pace after one more round; `spent_s` is what all committed rounds have taken."""


@dataclass(frozen=True, slots=True)
class ResourceBudget:
    """Wang et al., 2019, "Adaptive federated learning in resource constrained edge computing systems", algorithm 2,
    with time as the one resource.

    A round of τ steps costs c τ + b. With ρ and β how steep the loss and its gradient are, δ how far the clients'
    gradients lie apart, η the learning rate and R' the budget less c + b, τ is the integer that minimises

        G(τ) = A / 2ηφ + √(A² / 4η²φ² + ρ h(τ) / ηφτ) + ρ h(τ)        A = (c τ + b) / R' τ
        h(τ) = δ/β ((ηβ + 1)^τ - 1) - ηδτ

    among 1 … min(γ τ_last, `most`). The last round is cut to what is left of the budget.

    What differs. Their clients measure ρ and β between the global model and the last local one, which one that is
    asked now and then no longer has: here it is between the round's base and what it has just trained, on the same
    examples. δ is theirs to the letter only if clients sent their gradients, a model more up; here it follows from the
    updates, whose mean gradients are Δ_i / ητ: √(Σ p_i ‖Δ_i‖² - ‖Σ p_i Δ_i‖²) / ητ, the root of the mean square of
    what they take the mean of. And their last aggregation, which only measures the model, is left out.
    """

    seconds: float
    phi: float
    rate: float
    most: int

    @property
    def first(self) -> Pace:
        return Pace(1)

    def after(self, pace: Pace, commit: RoundCommit, spent_s: float) -> Pace:
        used = [each for each in commit.used if each.round == commit.round]
        if not commit.round or not used:
            return pace
        step_s, rest_s = costs(used, commit.seconds)
        slopes = slopes_of(used)
        wanted = pace.steps
        if slopes is not None:
            budget_s = max(self.seconds - step_s - rest_s, _LEAST)
            shape = Shape(*slopes, delta=spread(used, commit.norm, self.rate), rate=self.rate)
            limit = min(GROWTH * pace.steps, self.most)
            wanted = best_steps(
                lambda steps: self.gap(shape, (step_s * steps + rest_s) / (budget_s * steps), steps), limit
            )
        left_s = self.seconds - spent_s
        affordable = math.floor((left_s - rest_s) / step_s) if step_s > 0 else (self.most if left_s > rest_s else 0)
        return replace(pace, steps=max(min(wanted, affordable), 1), is_spent=affordable < 1)

    def gap(self, shape: Shape, cost: float, steps: int) -> float:
        """G(τ): how far from the best model the budget's last one can be, up to a constant."""
        scale = self.rate * self.phi
        drift = shape.rho * shape.drift(steps)
        half = cost / (2 * scale)
        return half + math.sqrt(half**2 + drift / (scale * steps)) + drift


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of the loss around the model: ρ, β, δ; and η."""

    rho: float
    beta: float
    delta: float
    rate: float

    def drift(self, steps: int) -> float:
        """h(τ), equation 11: how far τ local steps lead away from as many of the pooled data; inf beyond any float."""
        grown = steps * math.log1p(self.rate * self.beta)
        if grown > 700:  # e^709 is the largest that a float holds
            return math.inf if self.delta else 0.0
        return max(self.delta / self.beta * math.expm1(grown) - self.rate * self.delta * steps, 0.0)


@dataclass(frozen=True, slots=True)
class Progress:
    """Haddadpour et al., 2019, "Local SGD with periodic averaging", adaptive synchronisation: the nearer the loss F
    is to its end, the longer clients may go without one another. From the i-th round on

        τ_i = ⌈(F(w₀) / F(w_i))^⅓ τ₀⌉

    with 0 for the least that F can be; at most `most`, and at least τ₀. F is what clients measure of the model that
    they get, so a round's steps follow from the loss of the model before.
    """

    steps: int
    most: int

    @property
    def first(self) -> Pace:
        return Pace(min(self.steps, self.most))

    def after(self, pace: Pace, commit: RoundCommit, spent_s: float) -> Pace:  # noqa: ARG002 -- it has no budget
        used = [each for each in commit.used if each.round == commit.round and BASE_LOSS in each.metrics]
        if not commit.round or not used:
            return pace
        loss = _mean(used, BASE_LOSS)
        first = pace.first_loss or loss
        wanted = math.ceil(self.steps * max(first / loss, 1.0) ** (1 / 3) - 1e-9)
        return Pace(min(wanted, self.most), first_loss=first)


def best_steps(gap: Callable[[int], float], limit: int) -> int:
    """The number of steps from 1 to the limit with the least gap; of equals the smallest."""
    return min(range(1, limit + 1), key=gap)


def costs(used: Sequence[UsedUpdate], seconds: float) -> tuple[float, float]:
    """c and b of the round: seconds that the slowest client takes for a step, and what the rest of a round takes."""
    step_s = max(each.train_s / max(each.steps, 1) for each in used)
    return step_s, max(seconds - max(each.train_s for each in used), 0.0)


def slopes_of(used: Sequence[UsedUpdate]) -> tuple[float, float] | None:
    """ρ and β, the clients' means by their examples; None where nobody says."""
    said = [each for each in used if {LOSS_SLOPE, GRADIENT_SLOPE} <= each.metrics.keys()]
    return (_mean(said, LOSS_SLOPE), _mean(said, GRADIENT_SLOPE)) if said else None


def spread(used: Sequence[UsedUpdate], norm: float, rate: float) -> float:
    """δ, from the norms of the updates and of their mean."""
    total = sum(each.weight for each in used)
    squares = sum(each.weight / total * each.norm**2 for each in used)
    steps = max(1, *(each.steps for each in used))
    return math.sqrt(max(squares - norm**2, 0.0)) / (rate * steps)


def step_control_of(local: Local) -> StepControl | None:
    """What a resolved job asks for; None for a fixed number of steps."""
    asked = local.step_control
    if asked.resource_budget is not None:
        budget = asked.resource_budget
        return ResourceBudget(float(budget.seconds), budget.phi, local.learning_rate, budget.max_steps)
    if asked.progress is not None:
        return Progress(asked.progress.initial_steps, asked.progress.max_steps)
    return None


def _mean(used: Sequence[UsedUpdate], name: str) -> float:
    """Of a metric, by examples, each claim within its bounds."""
    claims = ((min(max(each.metrics[name], _LEAST), _MOST), each.examples) for each in used)
    return sum(claim * examples for claim, examples in claims) / sum(each.examples for each in used)
