"""The fields of `status.training`, as the schema in crds/federatedjobs.yaml has them. A test holds the two equal."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Shown(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The base of what is shown: None is left out, and numbers that are 0 are not."""


class BestShown(Shown, frozen=True):
    """The best model so far."""

    round: int
    metric: str
    value: float
    model: str


class PoolShown(Shown, frozen=True):
    """The clients of one pool."""

    name: str
    total: int
    connected: int
    queued: int


class ClientsShown(Shown, frozen=True):
    """The clients by state."""

    summary: str
    total: int
    connected: int
    training: int
    submitted: int
    excluded: int
    queued: int
    lost: int
    pools: tuple[PoolShown, ...]


class TrafficShown(Shown, frozen=True):
    """Bytes of all rounds that are over."""

    up: str
    down: str
    up_bytes: int
    down_bytes: int


class RoundShown(Shown, frozen=True):
    """One round that is over."""

    round: int
    summary: str
    outcome: str
    reason: str
    seconds: float
    asked: int
    used: int
    rejected: int
    stragglers: int
    queued: int
    up_bytes: int
    down_bytes: int
    start_time: str | None = None
    metrics: Mapping[str, float] | None = None


class Training(Shown, frozen=True):
    """All of `status.training`, but the time at which it was written."""

    epoch: int
    phase: str
    round: int
    progress: int
    clients: ClientsShown
    traffic: TrafficShown
    compression: str
    history: tuple[RoundShown, ...]
    reason: str | None = None
    message: str | None = None
    attempt: int | None = None
    deadline: str | None = None
    estimated_completion_time: str | None = None
    accuracy: str | None = None
    metrics: Mapping[str, float] | None = None
    best: BestShown | None = None
    model: str | None = None
    last_round: RoundShown | None = None
