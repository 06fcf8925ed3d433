"""How rounds go and how clients train, as frozen values: the `rounds`, `local`, `selection` and `evaluation` of a job.

Mirrors crds/federatedjobs.yaml; a test holds the two together, leaf by leaf.
"""

from __future__ import annotations

from typing import Literal

from muster_spec.values import NamedPath, Value


class SemiSynchronous(Value, frozen=True):
    lateness_factor: float
    min_steps: int
    max_steps: int
    max_staleness: int
    exponent: float


class Asynchronous(Value, frozen=True):
    """FedBuff; `buffer_size` is None for "as suits the number of clients", `concurrency` for "everybody"."""

    max_staleness: int
    exponent: float
    buffer_size: int | None = None
    concurrency: int | None = None


class AdaptiveDeadline(Value, frozen=True):
    min_seconds: int


class DeadlineControl(Value, frozen=True):
    type: Literal["Fixed", "Adaptive"]
    adaptive: AdaptiveDeadline | None = None


class NextRound(Value, frozen=True):
    max_staleness: int
    exponent: float


class LateUpdates(Value, frozen=True):
    type: Literal["Discard", "NextRound"]
    next_round: NextRound | None = None


class Stragglers(Value, frozen=True):
    type: Literal["Drop", "Partial", "LayerWise"]


class InclusionCorrection(Value, frozen=True):
    max_factor: float


class Target(Value, frozen=True):
    metric: str
    value: float


class Rounds(Value, frozen=True):
    """How rounds go. `cohort` and `min_updates` are None for "everybody" and "the whole cohort"."""

    mode: Literal["Synchronous", "SemiSynchronous", "Asynchronous"]
    total: int
    deadline_seconds: int
    overselect: float
    on_insufficient: Literal["Retry", "Extend", "Fail"]
    max_failed_rounds: int
    late_updates: LateUpdates
    deadline_control: DeadlineControl = DeadlineControl(type="Fixed")
    stragglers: Stragglers = Stragglers(type="Drop")
    semi_synchronous: SemiSynchronous | None = None
    asynchronous: Asynchronous | None = None
    cohort: int | None = None
    min_updates: int | None = None
    inclusion_correction: InclusionCorrection | None = None
    target: Target | None = None
    patience: int | None = None


class Optimizer(Value, frozen=True):
    type: Literal["SGD", "Adam", "AdamW"]
    momentum: float
    weight_decay: float


class ResourceBudget(Value, frozen=True):
    seconds: int
    phi: float
    max_steps: int


class Progress(Value, frozen=True):
    initial_steps: int
    max_steps: int


class StepControl(Value, frozen=True):
    type: Literal["Fixed", "ResourceBudget", "Progress"]
    resource_budget: ResourceBudget | None = None
    progress: Progress | None = None


class FedBalancer(Value, frozen=True):
    hard_share: float


class Sampling(Value, frozen=True):
    type: Literal["All", "FedBalancer"]
    fed_balancer: FedBalancer | None = None


class Local(Value, frozen=True):
    """How a client trains in one round, for tasks that use the ready-made loop."""

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: Optimizer
    step_control: StepControl = StepControl(type="Fixed")
    sampling: Sampling = Sampling(type="All")
    gradient_clip_norm: float | None = None
    time_budget: str | None = None
    max_steps: int | None = None


class AdaptiveSelection(Value, frozen=True):
    capacity: float
    bandwidth: float
    reliability: float
    quality: float
    data_size: float
    fairness: float
    exclusion_rounds: int
    max_exclusion_rounds: int


class Oort(Value, frozen=True):
    exploration: float
    exploration_decay: float
    min_exploration: float
    pacer_rounds: int
    slowness_penalty: float


class PowerOfChoice(Value, frozen=True):
    candidates: int | None = None


class LabelSelection(Value, frozen=True):
    match_labels: dict[str, str]


class CostSelection(Value, frozen=True):
    price: float
    interruptions: float
    energy: float


class ContributionHistory(Value, frozen=True):
    decay: float
    exploration: float


class Selection(Value, frozen=True):
    """Who is asked in each round: `type`, and the member of that name where it has parameters."""

    type: Literal["Random", "All", "Adaptive", "Oort", "PowerOfChoice", "Label", "Cost", "ContributionHistory"]
    adaptive: AdaptiveSelection | None = None
    oort: Oort | None = None
    power_of_choice: PowerOfChoice | None = None
    label: LabelSelection | None = None
    cost: CostSelection | None = None
    contribution_history: ContributionHistory | None = None
    memory: NamedPath | None = None


class Central(Value, frozen=True):
    """Whether a trusted client measures each model on the task's own test set."""

    type: Literal["Auto", "Never"]


class Evaluation(Value, frozen=True):
    every: int
    central: Central
    federated: bool
    timeout_seconds: int
