"""How updates travel and become the next model, as frozen values: `strategy`, `compression`, `robustness`, `privacy`.

Mirrors crds/federatedjobs.yaml; a test holds the two together, leaf by leaf.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from muster_spec.values import Value


class Blend(Value, frozen=True):
    examples: float
    loss: float
    variance: float


class Weighting(Value, frozen=True):
    type: Literal["Examples", "Uniform", "Loss", "Variance", "Blend"]
    blend: Blend | None = None


class FedProx(Value, frozen=True):
    mu: float


class Momentum(Value, frozen=True):
    learning_rate: float
    momentum: float


class AdaptiveServer(Value, frozen=True):
    learning_rate: float
    beta1: float
    beta2: float
    tau: float


class AdagradServer(Value, frozen=True):
    learning_rate: float
    tau: float


class Scaffold(Value, frozen=True):
    learning_rate: float


class FedPA(Value, frozen=True):
    min_share: float
    max_staleness: int
    exponent: float


class FedMA(Value, frozen=True):
    prior_sigma: float
    gamma: float
    sweeps: int
    max_growth: float
    sigma: float


class QFedAvg(Value, frozen=True):
    q: float


class ServerOptimizer(Value, frozen=True):
    type: Literal["SGD", "Adam", "Yogi", "Adagrad"]
    sgd: Momentum | None = None
    adam: AdaptiveServer | None = None
    yogi: AdaptiveServer | None = None
    adagrad: AdagradServer | None = None


class Strategy(Value, frozen=True):
    """How updates become the next model: `type`, and the member of that name where it has parameters."""

    type: Literal[
        "FedAvg",
        "FedProx",
        "FedAvgM",
        "FedAdam",
        "FedYogi",
        "FedAdagrad",
        "Scaffold",
        "FedNova",
        "FedPA",
        "FedMA",
        "QFedAvg",
    ]
    weighting: Weighting = Weighting(type="Examples")
    fed_prox: FedProx | None = None
    fed_avg_m: Momentum | None = None
    fed_adam: AdaptiveServer | None = None
    fed_yogi: AdaptiveServer | None = None
    fed_adagrad: AdagradServer | None = None
    scaffold: Scaffold | None = None
    fed_pa: FedPA | None = msgspec.field(default=None, name="fedPA")
    fed_ma: FedMA | None = msgspec.field(default=None, name="fedMA")
    q_fed_avg: QFedAvg | None = None
    server_optimizer: ServerOptimizer | None = None


class Blocks(Value, frozen=True):
    block_size: int


class TopK(Value, frozen=True):
    share: float
    scope: Literal["Tensor", "Global"]
    threshold: Literal["Exact", "Sampled"]
    momentum: float
    warm_up_rounds: int


class AdaptiveTopK(Value, frozen=True):
    min_share: float
    max_share: float


class Codec(Value, frozen=True):
    """One codec of a pipeline: `type`, and the member of that name where it has parameters."""

    type: Literal["Float32", "Float16", "BFloat16", "Int8", "Int4", "OneBit", "TopK", "AdaptiveTopK", "Lossless"]
    int8: Blocks | None = None
    int4: Blocks | None = None
    top_k: TopK | None = None
    adaptive_top_k: AdaptiveTopK | None = None


class Pipeline(Value, frozen=True):
    codecs: tuple[Codec, ...]
    error_feedback: bool | None = None


class FederatedDropout(Value, frozen=True):
    keep: float
    masks: int


class Compression(Value, frozen=True):
    """How models and updates travel: a `preset`, or `up` and `down`."""

    preset: Literal["none", "light", "balanced", "max", "auto"] | None = None
    up: Pipeline | None = None
    down: Pipeline | None = None
    deltas: bool | None = None
    federated_dropout: FederatedDropout | None = None


class SecureAggregation(Value, frozen=True):
    threshold: float
    bits: int
    group_size: int | None = None


class DifferentialPrivacy(Value, frozen=True):
    where: Literal["Server", "Client"]
    clip_norm: float
    delta: float
    noise_multiplier: float | None = None
    target_epsilon: float | None = None
    adaptive_clip_quantile: float | None = None


class Privacy(Value, frozen=True):
    secure_aggregation: SecureAggregation | None = None
    differential_privacy: DifferentialPrivacy | None = None


class TrimmedMean(Value, frozen=True):
    share: float


class Krum(Value, frozen=True):
    byzantine: int


class MultiKrum(Value, frozen=True):
    byzantine: int
    selected: int | None = None


class Bulyan(Value, frozen=True):
    byzantine: int


class GeometricMedian(Value, frozen=True):
    iterations: int
    smoothing: float


class CenteredClipping(Value, frozen=True):
    iterations: int
    radius: float | None = None


class Aggregation(Value, frozen=True):
    """How updates are combined: `type`, and the member of that name where it has parameters."""

    type: Literal["Mean", "Median", "TrimmedMean", "Krum", "MultiKrum", "Bulyan", "GeometricMedian", "CenteredClipping"]
    trimmed_mean: TrimmedMean | None = None
    krum: Krum | None = None
    multi_krum: MultiKrum | None = None
    bulyan: Bulyan | None = None
    geometric_median: GeometricMedian | None = None
    centered_clipping: CenteredClipping | None = None


class Robustness(Value, frozen=True):
    aggregation: Aggregation
    clip_norm: float | None = None
    max_norm: float | None = None
    max_weight_share: float | None = None
