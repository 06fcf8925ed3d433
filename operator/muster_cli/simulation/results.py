"""What a simulation leaves behind while it runs: a line of JSON for each thing that happened, in simulated time.

The lines follow from the job, the profile and the seed alone: nothing in them is of this machine or of this day, so
two runs of one simulation leave the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import msgspec

from muster_cli.simulation.fleet import Nature
from muster_cli.simulation.world import World
from muster_coordinator.rounds import IN_AT_DEADLINE
from muster_coordinator.state import Progress
from muster_spec.clients import ClientId

LEFT_OUT = frozenset(
    {"joined", "lost", "received", "planned", "profiled"}
)  # one a client or more: rounds say what came of them


@dataclass(frozen=True, slots=True)
class Line:
    """One committed round. `began` and `ended` are seconds of simulated time."""

    round: int
    ended: float
    seconds: float
    used: tuple[ClientId, ...]
    asked: int
    bytes_up: int
    bytes_down: int
    is_closed_by_deadline: bool  # rather than by enough updates

    @property
    def began(self) -> float:
        return self.ended - self.seconds


@dataclass(frozen=True, slots=True)
class Measured:
    """One evaluation of the model."""

    round: int
    at: float
    metrics: Mapping[str, float]


@dataclass(slots=True)
class History:
    """What happened, as far as a summary needs it."""

    rounds: list[Line] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    failed_attempts: int = 0
    finished: dict[str, Any] = field(default_factory=dict)


class Recorder:
    """The reporter of a simulated coordinator. `progress` is asked for what the events leave out."""

    def __init__(self, out: BinaryIO, world: World, progress: Callable[[], Progress]) -> None:
        self._out = out
        self._world = world
        self._progress = progress
        self.history = History()

    def begin(self, about: Mapping[str, object], fleet: Sequence[Nature]) -> None:
        """What is simulated, and each client's machine."""
        clients = [
            {
                "client": nature.client,
                "tier": nature.tier,
                "secondsPerStep": nature.step_s,
                "downBytesPerSecond": nature.down_bytes_s,
                "upBytesPerSecond": nature.up_bytes_s,
                "roundTripSeconds": nature.round_trip_s,
            }
            for nature in fleet
        ]
        self._write({"event": "simulation", "clock": "simulated time", **about, "clients": clients})

    def tell(self, kind: str, details: Mapping[str, object]) -> None:
        more: dict[str, object] = {}
        match kind:
            case "committed":
                more = self._commit(details)
            case "evaluated":
                self._measure(details)
            case "failedAttempt":
                self.history.failed_attempts += 1
            case "finished":
                self.history.finished = dict(details)
        if kind not in LEFT_OUT:
            self._write({"event": kind, "simulatedSeconds": self._world.now(), **details, **more})

    def close(self, summary: Mapping[str, object]) -> None:
        """The figures of it all, on the last line."""
        self._write({"event": "summary", **summary})

    def _commit(self, details: Mapping[str, Any]) -> dict[str, object]:
        commit = self._progress().last
        used = tuple(update.client for update in commit.used) if commit else ()
        asked = len(used) + len(details["failed"])
        up, down = details["bytesUp"], details["bytesDown"]
        now, seconds = self._world.now(), details["seconds"]
        is_late = IN_AT_DEADLINE in details["reason"]
        self.history.rounds.append(Line(details["round"], now, seconds, used, asked, up, down, is_late))
        return {"clients": used, "stragglers": commit.stragglers if commit else 0}

    def _measure(self, details: Mapping[str, Any]) -> None:
        found = details["central"] or details["federated"]
        if found:
            metrics = {name: value for name, value in found.items() if name not in {"examples", "clients"}}
            self.history.measured.append(Measured(details["round"], self._world.now(), metrics))

    def _write(self, line: Mapping[str, object]) -> None:
        self._out.write(msgspec.json.encode(line) + b"\n")
