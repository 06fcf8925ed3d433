"""Series of simulations that differ in a policy: each arm under each seed, one line of raw results for each.

Everything is simulated time. A seed fixes data, machines and luck, so arms are compared pair by pair. With --out,
lines are added to a file; what is in it already is not run again, so a long series can be stopped and gone on with. An
arm that this version refuses is left out and said.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from compression import SKIPPED, cifar10_folder, read_rows
from evaluations.claims import Claim, judged
from muster_cli.errors import BadInput
from muster_cli.job import load_job
from muster_cli.simulate import settings_of_clients
from muster_cli.simulation.profile import read_profile
from muster_cli.simulation.results import History, Measured
from muster_spec.types import ResolvedJob

MANIFEST = Path(__file__).parent / "cifar10.yaml"
ROUNDS = 80
SEEDS = range(5)
METRIC = "accuracy"
NOT_YET = "is not supported by this version"

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Arm:
    """One policy: settings of the job, the machines it runs on, and how many clients there are."""

    name: str
    settings: Mapping[str, object] = field(default_factory=dict)
    profile: str = "tiers"
    clients: int = 60


@dataclass(frozen=True, slots=True)
class Series:
    """A benchmark: its arms, what is made of their lines, and what that is held against.

    `metrics` names what a line keeps of each measure beside the accuracy: under its name, as `measured` has that.
    """

    name: str
    about: str
    arms: tuple[Arm, ...]
    figures: Callable[[Sequence[Row]], dict[str, Any]]
    claims: tuple[Claim, ...] = ()
    manifest: Path = MANIFEST
    rounds: int = ROUNDS
    wants_cifar10: bool = True
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """One simulation to run."""

    arm: Arm
    seed: int
    rounds: int
    manifest: Path
    data: str | None
    metrics: tuple[str, ...]


def run_series(series: Series) -> int:
    """Run what is missing, and close with one JSON object; the exit code."""
    given = _parsed(series)
    with tempfile.TemporaryDirectory(prefix="muster-benchmark-") as folder:
        out = given.summary or given.out or Path(folder) / f"{series.name}.jsonl"
        arms, refused = _offered(series, given.arms)
        if not given.summary and not _measure(series, arms, given, Path(folder), out):
            print("CIFAR-10 is not here: set MUSTER_DATA to the folder with unpack_cifar10.py")
            return SKIPPED
        rows = [row for row in read_rows(out) if row["benchmark"] == series.name]
        print(json.dumps(closing(series, rows) | refused))
    return 0


def closing(series: Series, rows: Sequence[Row]) -> dict[str, Any]:
    """All that the lines say, as one object."""
    about = {"benchmark": series.name, "clock": "simulated time"}
    return about | series.figures(rows) | {"claims": [judged(claim, rows) for claim in series.claims]}


def _parsed(series: Series) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=series.about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=[arm.name for arm in series.arms])
    parser.add_argument("--seeds", default=f"{SEEDS[0]}:{SEEDS[-1]}", help="FIRST:LAST, or one")
    parser.add_argument("--rounds", type=int, default=series.rounds)
    parser.add_argument("--processes", type=int, default=1, help="simulations side by side")
    parser.add_argument("--out", type=Path, help="the file of raw lines")
    parser.add_argument("--summary", type=Path, help="run nothing: say what this file of raw lines says")
    return parser.parse_args()


def _offered(series: Series, wanted: Sequence[str] | None) -> tuple[list[Arm], dict[str, Any]]:
    """The arms that this version can run, of those that are wanted; and why it can't run the others."""
    able, refused = [], {}
    for arm in series.arms:
        if wanted and arm.name not in wanted:
            continue
        try:
            job_of(arm, 0, 1, series.manifest)
            able.append(arm)
        except BadInput as error:
            if NOT_YET not in str(error):
                raise
            refused[arm.name] = str(error).splitlines()[0].split(": ", 1)[-1]
    return able, {"refused": refused} if refused else {}


def _measure(series: Series, arms: Sequence[Arm], given: argparse.Namespace, folder: Path, out: Path) -> bool:
    """Whether the data is here."""
    first, _, last = given.seeds.partition(":")
    seeds = range(int(first), int(last or first) + 1)
    pieces = list(missing(series.name, arms, seeds, given.rounds, read_rows(out)))
    data = cifar10_folder(folder) if pieces and series.wants_cifar10 else None
    if pieces and series.wants_cifar10 and data is None:
        return False
    place = str(data) if data else None
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a") as lines:
        work = [Piece(arm, seed, given.rounds, series.manifest, place, series.metrics) for arm, seed in pieces]
        for row in _rows(work, given.processes):
            lines.write(json.dumps({"benchmark": series.name} | row) + "\n")
            lines.flush()
            time = f"{row['seconds']:.0f} s of simulated time"
            print(f"{row['arm']}, seed {row['seed']}: {time}, {METRIC} {last_of(row):.3f}", flush=True)
    return True


def missing(
    name: str, arms: Sequence[Arm], seeds: Iterable[int], rounds: int, rows: Iterable[Row]
) -> Iterator[tuple[Arm, int]]:
    """What is still to be run, seed by seed: a series that is stopped has pairs."""
    done = {(row["arm"], row["seed"]) for row in rows if row["benchmark"] == name and row["rounds"] == rounds}
    return ((arm, seed) for seed in seeds for arm in arms if (arm.name, seed) not in done)


def _rows(pieces: Sequence[Piece], processes: int) -> Iterator[dict[str, Any]]:
    if processes == 1:
        yield from map(run_piece, pieces)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), _find_packages, (list(sys.path),)) as pool:
        yield from pool.map(run_piece, pieces)


def _find_packages(path: list[str]) -> None:
    sys.path[:] = path


def job_of(arm: Arm, seed: int, rounds: int, manifest: Path = MANIFEST) -> ResolvedJob:
    """The arm's job. BadInput where this version refuses it."""
    settings = {"spec.seed": seed, "spec.rounds.total": rounds} | dict(arm.settings)
    clients = settings_of_clients([manifest], None, arm.clients)
    return load_job([manifest], None, [*clients, *(f"{path}={json.dumps(value)}" for path, value in settings.items())])


def run_piece(piece: Piece) -> dict[str, Any]:
    """One simulation's line."""
    import torch

    from muster_cli.simulation.scene import simulate

    torch.set_num_threads(1)
    job = job_of(piece.arm, piece.seed, piece.rounds, piece.manifest)
    made = simulate(job, read_profile(piece.arm.profile), piece.data, io.BytesIO(), surrogate=False)
    summary, history = made.summary, made.history
    measured, last = without_measuring(history), history.rounds[-1]
    return {
        "arm": piece.arm.name,
        "seed": piece.seed,
        "rounds": piece.rounds,
        "outcome": summary["outcome"],
        "seconds": round(last.ended - measuring_s(history, last.round - 1), 3),
        "roundSeconds": [round(line.seconds, 4) for line in history.rounds if line.round],
        "updates": [len(line.used) for line in history.rounds if line.round],
        "bytesUp": summary["bytesUp"],
        "bytesDown": summary["bytesDown"],
        "failedAttempts": summary["failedAttempts"],
        "closedByDeadline": sum(line.is_closed_by_deadline for line in history.rounds if line.round),
        "clients": piece.arm.clients,
        "participation": list(summary["participation"]["rounds"].values()),
        "tiers": {name: tier["share"] for name, tier in summary["tiers"].items()},
        "measured": _points(measured, METRIC),
        "metrics": {name: _points(measured, name) for name in piece.metrics},
    }


def _points(measured: Sequence[Measured], name: str) -> list[list[float]]:
    """The round, when it was measured, and what of this metric."""
    return [[each.round, round(each.at, 3), round(each.metrics[name], 6)] for each in measured]


def measuring_s(history: History, until: int) -> float:
    """What measuring the models of the rounds up to this one took: clients had nothing else to do meanwhile."""
    ended = {line.round: line.ended for line in history.rounds}
    return sum(each.at - ended[each.round] for each in history.measured if each.round <= until)


def without_measuring(history: History) -> list[Measured]:
    """The measures at the times at which they would stand had they cost none."""
    return [replace(each, at=each.at - measuring_s(history, each.round)) for each in history.measured]


def last_of(row: Row) -> float:
    """The newest measure."""
    return float(row["measured"][-1][2]) if row["measured"] else float("nan")
