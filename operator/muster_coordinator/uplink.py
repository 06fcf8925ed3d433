"""How hard a client's updates are squeezed under preset `auto`: by its own bandwidth, measured on what it sent before.

Of an update in one message nobody sees how long it took: there the line counts as its worker has surveyed it.

A pure choice, made when a round is planned and stored with the plan: an update that was made before a restart still
fits. Squeezing costs accuracy and time, so a client does no more of it than its line needs: the mildest pipeline whose
transfer takes at most a tenth of the time that the client trains. All of them remember what they left out, so that a
client may change from one to the other without losing anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from muster_coordinator.events import UpdateStaged
from muster_wire.feedback import Recipe
from muster_wire.presets import PRESETS

ACCEPTABLE: Final = 0.1  # of the time spent training
UNKNOWN: Final = "balanced"
_NEWEST: Final = 0.5  # weight of the newest measurement in the mean that decides
# Mildest first; and the share of float32's bytes that an update takes: benchmarks/codecs.py measures it.
_SHARES: Final[Mapping[str, float]] = MappingProxyType({"light": 0.46, "balanced": 0.1, "max": 0.032})


@dataclass(frozen=True, slots=True)
class Line:
    """What is known of one client's uplink."""

    bytes_per_s: float
    train_s: float
    plain_bytes: int  # of an update in float32


@dataclass(frozen=True, slots=True)
class Chosen:
    """The preset whose uplink a client uses, and why."""

    preset: str
    reason: str


UPLINKS: Final[Mapping[str, Recipe]] = MappingProxyType(
    {name: replace(PRESETS[name].up, error_feedback=True) for name in _SHARES}
)


def choose_uplink(line: Line | None) -> Chosen:
    """The mildest pipeline that keeps a client's transfers short beside its training."""
    if line is None:
        return Chosen(UNKNOWN, f"{UNKNOWN}: its bandwidth is not known yet")
    rate = f"{line.bytes_per_s / 1e6:.3g} MB/s"
    for name, share in _SHARES.items():
        transfer_s = share * line.plain_bytes / line.bytes_per_s
        if transfer_s <= ACCEPTABLE * line.train_s:
            return Chosen(
                name, f"{name}: at {rate} it takes {transfer_s:.2g} s beside {line.train_s:.2g} s of training"
            )
    return Chosen(name, f"{name}: at {rate} even this takes {transfer_s:.2g} s beside {line.train_s:.2g} s of training")


def measured(before: Line | None, update: UpdateStaged, surveyed: float = math.nan) -> Line | None:
    """What is known after one more update. Where that was not timed its line is as `surveyed`, bytes a second; nothing
    new where that isn't known either (nan).
    """
    bytes_per_s = update.size_bytes / update.upload_s if update.upload_s > 0 else surveyed
    if math.isnan(bytes_per_s) or not update.size_bytes:
        return before
    now = Line(bytes_per_s, update.train_ms / 1000, update.plain_bytes)
    if before is None:
        return now
    return replace(
        now,
        bytes_per_s=_mean(before.bytes_per_s, now.bytes_per_s),
        train_s=_mean(before.train_s, now.train_s),
    )


def _mean(before: float, now: float) -> float:
    return (1 - _NEWEST) * before + _NEWEST * now
