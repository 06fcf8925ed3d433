"""What one job hands on to the next about the clients of a pool, as numbers that mean the same in both.

Seconds of training and losses are a task's own, so they stay behind. A client's pace (its time over the median of its
pool's), the rate of its connection and how reliable it was hold for the next job too. Counts fade by half with each
job, so that what a client was like long ago weighs less than what it is like now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from muster_coordinator.histories import PROFILE, Floats, Histories, Table, blank
from muster_coordinator.records import ClientProfile, KnownClient
from muster_spec.clients import ClientId

FADING: Final = 0.5


def begin_with(carried: Mapping[ClientId, KnownClient], ordinals: Mapping[ClientId, int]) -> Histories:
    """Histories of a job that begins: nobody has been asked yet, and some clients are known from earlier jobs."""
    if not carried:
        return Histories()
    table = blank(len(ordinals)).copy()
    for client, known in carried.items():
        if client in ordinals:
            row = ordinals[client]
            table["used_before"][row], table["failed_before"][row] = known.used, known.failed
            table["pace_before"][row] = np.nan if known.pace is None else known.pace
            table["bytes_per_s"][row] = np.nan if known.bytes_per_s is None else known.bytes_per_s
            for name in PROFILE if known.profile else ():
                table[name][row] = getattr(known.profile, name)
    table.flags.writeable = False
    return Histories(table)


def to_hand_on(clients: Sequence[ClientId], table: Table) -> dict[ClientId, KnownClient]:
    """What is known now of a pool's clients, whose rows these are; whoever nothing is known of is left out."""
    used = FADING * table["used_before"] + table["used"]
    failed = FADING * table["failed_before"] + table["failed"] + table["late"]
    paces, rates = _paces(table), table["bytes_per_s"]
    return {
        client: KnownClient(
            used=round(float(used[row]), 3),
            failed=round(float(failed[row]), 3),
            pace=_number(paces[row]),
            bytes_per_s=_number(rates[row]),
            profile=_profile(table, row),
        )
        for row, client in enumerate(clients)
        if used[row] or failed[row] or not np.isnan(paces[row]) or not np.isnan(table["flops"][row])
    }


def _paces(table: Table) -> Floats:
    """In this job, or else in those before."""
    times = np.where(np.isnan(table["train_s"]), table["elapsed_s"], table["train_s"])
    known = times[~np.isnan(times)]
    middle = float(np.median(known)) if len(known) else 0.0
    return np.where(np.isnan(times), table["pace_before"], times / middle) if middle > 0 else table["pace_before"]


def _profile(table: Table, row: int) -> ClientProfile | None:
    """As its worker last measured itself; None if it never did."""
    if np.isnan(table["flops"][row]):
        return None
    flops, latency_s, up, down = (float(f"{table[name][row]:.6g}") for name in PROFILE if name != "memory_bytes")
    memory_bytes = int(table["memory_bytes"][row])
    return ClientProfile(
        flops=flops, memory_bytes=memory_bytes, latency_s=latency_s, up_bytes_per_s=up, down_bytes_per_s=down
    )


def _number(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(f"{value:.6g}")
