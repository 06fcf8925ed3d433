"""What is known of each client when a cohort is chosen: a table with a row a client, folded from the commits of rounds.

Everything in it follows from records that are stored, so a coordinator that starts anew knows what the one before it
knew, and a simulation chooses as production does. It is a table of columns because a selector looks at ten thousand
clients at once; `row` gives one client's history as a value with names. Nobody changes a table: a fold makes another.

Times and rates are exponential means in which the newest measurement counts half. nan is "not known".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from muster_coordinator.records import Absence, ClientProfile, RoundCommit, UsedUpdate
from muster_spec.clients import ClientId
from muster_spec.work import LOSS_HIGH, LOSS_LOW

Table = NDArray[np.void]
Floats = NDArray[np.float64]

_NEWEST: Final = 0.5  # weight of the newest measurement in a mean
_COUNTS: Final = (
    "asked",  # how many times it was asked
    "used",  # how many of its updates were used
    "failed",  # its code raised, its update was refused, or its worker was lost
    "late",  # it was still at work at a deadline
    "overtaken",  # it was still at work when a round closed early, with others enough
    "strikes",  # failures and deadlines missed in a row
    "last_asked",  # round; 0: never
    "last_used",
    "last_strike",
    "examples",  # of its newest update
    "bytes_up",  # of all its updates
)
_MEASURES: Final = (
    "elapsed_s",  # from its order to its update
    "train_s",  # as it says itself
    "step_s",  # of that, for each local step; of the whole where it doesn't say
    "upload_s",  # of updates that came in a stream: see uploads.py
    "fetch_s",  # all else: the model's way down, waiting for its worker, and an update's way up that was not timed
    "bytes_per_s",  # of its uplink
    "loss",  # as it last reported it
    "loss_rms",  # root of the mean square over examples; the loss where it says no more
    "loss_low",
    "loss_high",
    "norm",  # of its newest update
    "flops",  # as its worker measured them, see survey.py of the worker: operations a second
    "memory_bytes",
    "latency_s",
    "up_bytes_per_s",
    "down_bytes_per_s",
    "pace_before",  # its time over the median of its pool's, in an earlier job
    "moved",  # discounted sum over its updates of how much each moved the model; 1 is what an average update does
    "moved_weight",  # discounted count of them
    "used_before",  # updates used, and failures, of earlier jobs; they fade
    "failed_before",
)
ROW: Final = np.dtype([*((name, "i8") for name in _COUNTS), *((name, "f8") for name in _MEASURES)])
PROFILE: Final = ("flops", "memory_bytes", "latency_s", "up_bytes_per_s", "down_bytes_per_s")
_STRIKES: Final = (Absence.FAILED, Absence.LOST, Absence.LATE)
_CENSORED: Final = (Absence.LATE, Absence.OVERTAKEN)  # it would have taken longer than the round did
_COLUMN_OF: Final[Mapping[Absence, str]] = {
    Absence.FAILED: "failed",
    Absence.LOST: "failed",
    Absence.LATE: "late",
    Absence.OVERTAKEN: "overtaken",
}


def blank(count: int) -> Table:
    """A table of clients that nothing is known of."""
    table: Table = np.zeros(count, ROW)
    for name in _MEASURES[: _MEASURES.index("moved")]:
        table[name] = np.nan
    return _frozen(table)


@dataclass(frozen=True, slots=True)
class RoundSeen:
    """What a selector or a deadline wants to know of a round that is over. nan: nobody said."""

    loss: float  # training loss, averaged over updates by their examples
    utility: float  # statistical utility of its updates, summed (Oort)
    loss_low: float  # smallest of the clients' low losses (FedBalancer)
    loss_high: float  # mean of their high ones


@dataclass(frozen=True, slots=True, eq=False)
class Histories:
    """All clients by ordinal, and all rounds in order."""

    table: Table = field(default_factory=lambda: blank(0))
    rounds: tuple[RoundSeen, ...] = ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histories):
            return NotImplemented
        return self.table.tobytes() == other.table.tobytes() and repr(self.rounds) == repr(other.rounds)

    def __hash__(self) -> int:
        return hash(self.table.tobytes())

    def rows_of(self, clients: Sequence[ClientId], ordinals: Mapping[ClientId, int]) -> Table:
        """The rows of these clients, in their order, which is that of ordinals; blank ones while nothing is known."""
        if not len(self.table):
            return blank(len(clients))
        if len(clients) == len(self.table):  # all of them, which is usual
            return self.table
        rows: Table = self.table[np.fromiter(map(ordinals.__getitem__, clients), np.int64, len(clients))]
        return rows

    def row(self, ordinal: int) -> Mapping[str, float]:
        """One client's history by name."""
        return dict(zip(_COUNTS + _MEASURES, self.table[ordinal].item(), strict=True))

    def surveyed_up(self, client: ClientId, ordinals: Mapping[ClientId, int]) -> float:
        """Bytes a second of its uplink, as its worker last measured them; nan: it hasn't."""
        is_known = len(self.table) and client in ordinals
        return float(self.table["up_bytes_per_s"][ordinals[client]]) if is_known else math.nan

    def after(self, commit: RoundCommit, ordinals: Mapping[ClientId, int], decay: float) -> Histories:
        """One more round is over. `decay` is how much of an older contribution is left with each newer one."""
        table = (self.table if len(self.table) else blank(len(ordinals))).copy()
        _note_profiles(table, commit.profiled, ordinals)
        if not commit.round:  # the making of the first model says little of anybody
            return Histories(_frozen(table), self.rounds)
        fresh = commit.fresh
        _note_absences(table, commit.absences, ordinals, commit)
        _note_used(table, commit.used, ordinals, commit.round)
        _note_asked(table, {each.client for each in fresh} | commit.absences.keys(), ordinals, commit.round)
        _note_contributions(table, commit.used, ordinals, decay)
        return Histories(_frozen(table), (*self.rounds, _seen(fresh)))

    def with_profiles(self, profiled: Mapping[ClientId, ClientProfile], ordinals: Mapping[ClientId, int]) -> Histories:
        """The same with what workers have measured since."""
        if not profiled:
            return self
        table = (self.table if len(self.table) else blank(len(ordinals))).copy()
        _note_profiles(table, profiled, ordinals)
        return Histories(_frozen(table), self.rounds)

    def with_absences(self, absences: Mapping[ClientId, Absence], ordinals: Mapping[ClientId, int]) -> Histories:
        """The same after attempts at the open round that failed: whoever was missing then is not asked first now."""
        if not absences or not len(self.table):
            return self
        table = self.table.copy()
        _strike(table, absences, ordinals, len(self.rounds) + 1)
        return Histories(_frozen(table), self.rounds)


def _frozen(table: Table) -> Table:
    table.flags.writeable = False
    return table


def uplinks(rows: Table) -> Floats:
    """Bytes a second up: as updates took to come, or as workers found it where nobody saw that; nan: not known."""
    return np.where(np.isnan(rows["bytes_per_s"]), rows["up_bytes_per_s"], rows["bytes_per_s"])


# --- what a round leaves ----------------------------------------------------------------------------------------------


def _places(clients: Iterable[ClientId], ordinals: Mapping[ClientId, int]) -> NDArray[np.int64]:
    """Where these clients stand; a job may have lost clients since."""
    return np.fromiter((ordinals[client] for client in clients if client in ordinals), np.int64)


def _note_profiles(table: Table, profiled: Mapping[ClientId, ClientProfile], ordinals: Mapping[ClientId, int]) -> None:
    """The newest counts: machines are what they are now."""
    places = _places(profiled, ordinals)
    found = [profile for client, profile in profiled.items() if client in ordinals]
    for name in PROFILE:
        table[name][places] = [getattr(profile, name) for profile in found]


def _note_asked(table: Table, asked: Iterable[ClientId], ordinals: Mapping[ClientId, int], number: int) -> None:
    places = _places(asked, ordinals)
    table["asked"][places] += 1
    table["last_asked"][places] = number


def _note_absences(
    table: Table, absences: Mapping[ClientId, Absence], ordinals: Mapping[ClientId, int], commit: RoundCommit
) -> None:
    _strike(table, absences, ordinals, commit.round)
    missed = _places((client for client, why in absences.items() if why in _CENSORED), ordinals)
    table["elapsed_s"][missed] = np.fmax(table["elapsed_s"][missed], commit.seconds or np.nan)


def _strike(table: Table, absences: Mapping[ClientId, Absence], ordinals: Mapping[ClientId, int], number: int) -> None:
    for why, column in _COLUMN_OF.items():
        table[column][_places((client for client, found in absences.items() if found == why), ordinals)] += 1
    struck = _places((client for client, why in absences.items() if why in _STRIKES), ordinals)
    table["strikes"][struck] += 1
    table["last_strike"][struck] = number


def _note_used(table: Table, used: Sequence[UsedUpdate], ordinals: Mapping[ClientId, int], number: int) -> None:
    _count_used(table, used, ordinals)
    known = _newest_of_each(used, ordinals)
    places = _places((each.client for each in known), ordinals)
    table["last_used"][places] = number
    table["strikes"][places] = 0
    table["examples"][places] = [each.examples for each in known]
    for name, values in _measures_of(known).items():
        old = table[name][places]
        table[name][places] = np.where(np.isnan(values), old, values)
    for name, values in _times_of(known).items():
        old = table[name][places]
        mixed = np.where(np.isnan(old), values, (1 - _NEWEST) * old + _NEWEST * values)
        table[name][places] = np.where(np.isnan(values), old, mixed)


def _count_used(table: Table, used: Sequence[UsedUpdate], ordinals: Mapping[ClientId, int]) -> None:
    """All of them: a client may have one of this round and a late one in the same sum."""
    ours = [each for each in used if each.client in ordinals]
    places = _places((each.client for each in ours), ordinals)
    np.add.at(table["used"], places, 1)
    np.add.at(table["bytes_up"], places, [each.size_bytes for each in ours])


def _newest_of_each(used: Sequence[UsedUpdate], ordinals: Mapping[ClientId, int]) -> list[UsedUpdate]:
    """What a client is like now, the newer of two updates says."""
    newest = {each.client: each for each in sorted(used, key=lambda each: each.round) if each.client in ordinals}
    return list(newest.values())


def _measures_of(used: Sequence[UsedUpdate]) -> dict[str, Floats]:
    def of(*names: str) -> Floats:
        return _floats(next((each.metrics[name] for name in names if name in each.metrics), np.nan) for each in used)

    return {
        "loss": of("loss"),
        "loss_rms": of("lossRms", "loss"),
        "loss_low": of(LOSS_LOW),
        "loss_high": of(LOSS_HIGH),
        "norm": _floats(each.norm for each in used),
    }


def _times_of(used: Sequence[UsedUpdate]) -> dict[str, Floats]:
    """A time of 0 was not measured."""
    elapsed, train, upload = (
        _floats(getattr(each, name) or np.nan for each in used) for name in ("elapsed_s", "train_s", "upload_s")
    )
    sizes, steps = _floats(each.size_bytes for each in used), _floats(each.steps or np.nan for each in used)
    fetch = np.maximum(elapsed - np.nan_to_num(train) - np.nan_to_num(upload), 0.0)
    return {
        "elapsed_s": elapsed,
        "train_s": train,
        "step_s": np.where(np.isnan(train), elapsed, train) / steps,
        "upload_s": upload,
        "fetch_s": fetch,
        "bytes_per_s": sizes / upload,
    }


def _note_contributions(
    table: Table, used: Sequence[UsedUpdate], ordinals: Mapping[ClientId, int], decay: float
) -> None:
    """How far each update moved the model: its weight times its norm, as a multiple of the average in its sum."""
    known = _newest_of_each(used, ordinals)
    pushes = _floats(each.weight * each.norm for each in known)
    if not len(known) or not pushes.sum() > 0:
        return
    places = _places((each.client for each in known), ordinals)
    table["moved"][places] = decay * table["moved"][places] + pushes / pushes.mean()
    table["moved_weight"][places] = decay * table["moved_weight"][places] + 1.0


def _seen(fresh: Sequence[UsedUpdate]) -> RoundSeen:
    measures, examples = _measures_of(fresh), _floats(each.examples for each in fresh)
    said = ~np.isnan(measures["loss"])
    total = examples[said].sum()
    utilities = examples * measures["loss_rms"]
    return RoundSeen(
        loss=float((examples * measures["loss"])[said].sum() / total) if total else float("nan"),
        utility=float(np.nansum(utilities)),
        loss_low=_reduced(np.min, measures["loss_low"]),
        loss_high=_reduced(np.mean, measures["loss_high"]),
    )


def _reduced(how: Callable[[Floats], np.floating[Any]], values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(how(known)) if len(known) else float("nan")


def _floats(values: Iterable[float]) -> Floats:
    return np.fromiter(values, np.float64)
