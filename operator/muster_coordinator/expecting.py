"""How long a client will take that has not been timed in this job: by what its worker measured of itself, or by what an
earlier job says.

How many operations a training takes and how many bytes a round moves, nobody says in advance. So a profile (see
surveying.py) says how a client compares with the others, in work (operations a second) and on its line (both ways, and
the call's latency); and clients that were timed say what work and all else take one like the middle of them. Until
somebody was timed, both count alike. Pure, and for ten thousand clients at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from muster_coordinator.histories import Floats, Table, uplinks

NOMINAL_BYTES = 2.0**20  # each way, until an update has come in


def expected_s(rows: Table, everybody: Table, otherwise_s: float) -> Floats:
    """Seconds from an order to its update: as measured, else as foretold, else the median of those that were timed.

    `otherwise_s` is what a usual client is taken to need before anybody has been timed.
    """
    middle = _middle_of(everybody)
    work, line = _paces(rows, middle)
    work_s, rest_s = _usual_s(everybody, middle, otherwise_s)
    foretold = work_s * work + rest_s * line
    usual = _median(everybody["elapsed_s"], otherwise_s)
    known = np.where(np.isnan(rows["elapsed_s"]), foretold, rows["elapsed_s"])
    return np.where(np.isnan(known), usual, known)


def line_s(rows: Table, size_bytes: float = NOMINAL_BYTES) -> Floats:
    """What so many bytes take down and as many up, with the latency of a call; nan: nothing is known of the line.

    The way up is as fast as the job, or one before, has seen it, else as measured. Where only one way is known the
    other is like it.
    """
    measured_up = uplinks(rows)
    down = np.where(np.isnan(rows["down_bytes_per_s"]), measured_up, rows["down_bytes_per_s"])
    up = np.where(np.isnan(measured_up), down, measured_up)
    seconds: Floats = (
        np.nan_to_num(rows["latency_s"]) + size_bytes / np.maximum(up, 1.0) + size_bytes / np.maximum(down, 1.0)
    )
    return seconds


@dataclass(frozen=True, slots=True)
class _Middle:
    """The client in the middle: its operations a second, and what an update of so many bytes takes on its line."""

    flops: float
    size_bytes: float
    line_s: float


def _middle_of(everybody: Table) -> _Middle:
    """nan: nobody says."""
    size = _update_bytes(everybody)
    return _Middle(_median(everybody["flops"], np.nan), size, _median(line_s(everybody, size), np.nan))


def _paces(rows: Table, middle: _Middle) -> tuple[Floats, Floats]:
    """How long work and line take each, as multiples of the median; where one isn't known the other stands for it."""
    measured = middle.flops / rows["flops"]
    work = np.where(np.isnan(rows["pace_before"]), measured, rows["pace_before"])
    line = line_s(rows, middle.size_bytes) / middle.line_s
    return np.where(np.isnan(work), line, work), np.where(np.isnan(line), work, line)


def _usual_s(everybody: Table, middle: _Middle, otherwise_s: float) -> tuple[float, float]:
    """What work, and all else, take a client at the median of machines and lines."""
    work, line = (np.maximum(np.nan_to_num(pace, nan=1.0), 1e-9) for pace in _paces(everybody, middle))
    elapsed, train = everybody["elapsed_s"], everybody["train_s"]
    if np.isnan(train).all():  # a task that doesn't say
        train = elapsed / 2
    rest = np.maximum(elapsed - train, 0.0)
    return _median(train / work, otherwise_s / 2), _median(rest / line, otherwise_s / 2)


def _update_bytes(everybody: Table) -> float:
    sent = everybody["used"] > 0  # a row is wide: two columns of it are quicker to copy
    return _median(everybody["bytes_up"][sent] / everybody["used"][sent], NOMINAL_BYTES) or NOMINAL_BYTES


def _median(values: Floats, otherwise: float) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else otherwise
