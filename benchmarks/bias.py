"""What fastest-K loses of what slow clients alone have, and what inclusionCorrection wins back: CIFAR-10 on sixty
clients, simulated time.

The last eighteen clients are always the slow ones (profile biased), and they alone hold ships and trucks. Twenty are
asked in a round. One arm waits for all of them; the others close with the fastest fourteen, one of these with weights
inverse to how often each client was counted. Figures are the accuracy on the two classes by themselves, and on all ten.

    benchmarks/bias.py --out benchmarks/results/bias.jsonl                              five seeds; an hour
    benchmarks/bias.py --seeds 1000 --rounds 6                                          a trial
    benchmarks/bias.py --summary benchmarks/results/bias.jsonl                          its figures
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from compression import SKIPPED, cifar10_folder, read_rows  # noqa: E402 -- after the path
from evaluations.figures import Row, difference, level, round_seconds, runs_of, saving, table  # noqa: E402 -- likewise
from evaluations.series import (  # noqa: E402 -- likewise
    METRIC,
    ROUNDS,
    SEEDS,
    Arm,
    job_of,
    measuring_s,
    missing,
    without_measuring,
)
from muster_cli.simulation.profile import read_profile  # noqa: E402 -- likewise
from muster_cli.simulation.results import Measured  # noqa: E402 -- likewise

NAME = "bias"
PROFILE, SLOW_TIER = "biased", "cloud-cpu"
SLOW_CLIENTS, SLOW_CLASSES = range(42, 60), (8, 9)  # the last three in ten; ships and trucks
RESERVED = {"classes": list(SLOW_CLASSES), "clients": list(SLOW_CLIENTS)}
PARTITION = {"type": "labels", "classesPerClient": 3, "reserved": RESERVED}
TASK: dict[str, object] = {"spec.task.config": {"partition": PARTITION, "perClass": True}}
FASTEST = TASK | {"spec.rounds.minUpdates": 14}

ALL, BIASED, CORRECTED = ARMS = (
    Arm("all", TASK, PROFILE),
    Arm("fastest 14", FASTEST, PROFILE),
    Arm("fastest 14, corrected", FASTEST | {"spec.rounds.inclusionCorrection": {"maxFactor": 3}}, PROFILE),
)


def slow_level(row: Row) -> float | None:
    """A run's accuracy on the classes of the slow clients, in points."""
    return level({"measured": row["slowClasses"]})


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """The two classes and all ten, what is lost beside waiting for all, and what the correction wins back of it."""
    quick = [arm.name for arm in (BIASED, CORRECTED)]
    return {
        "slow_classes": {arm.name: _slow_classes(rows, arm.name) for arm in ARMS},
        "slow_classes_points_lost": {arm: difference(rows, ALL.name, arm, slow_level) for arm in quick},
        "slow_classes_points_won_back": difference(rows, CORRECTED.name, BIASED.name, slow_level),
        "accuracy_points_lost": {arm: difference(rows, ALL.name, arm, level) for arm in quick},
        "accuracy_points_won_back": difference(rows, CORRECTED.name, BIASED.name, level),
        "round_time_saved_percent": {arm: saving(rows, arm, ALL.name, round_seconds) for arm in quick},
        "arms": table(rows),
    }


def _slow_classes(rows: Sequence[Row], arm: str) -> dict[str, float] | None:
    """The accuracy on them, in points, and which part of all updates came from the clients that hold them."""
    runs = list(runs_of(rows, arm).values())
    levels = [found for run in runs if (found := slow_level(run)) is not None]
    if not levels:
        return None
    shares = [run["tiers"][SLOW_TIER] for run in runs]
    return {"accuracy": round(statistics.fmean(levels), 3), "share_of_updates": round(statistics.fmean(shares), 3)}


def run(arm: Arm, seed: int, rounds: int, data: str) -> dict[str, Any]:
    """One simulation's line, as those of the other series and with the accuracy on the two classes."""
    import torch

    from muster_cli.simulation.scene import simulate

    torch.set_num_threads(1)
    made = simulate(job_of(arm, seed, rounds), read_profile(arm.profile), data, io.BytesIO(), surrogate=False)
    summary, history = made.summary, made.history
    measured, last = without_measuring(history), history.rounds[-1]
    return {
        "benchmark": NAME,
        "arm": arm.name,
        "seed": seed,
        "rounds": rounds,
        "outcome": summary["outcome"],
        "seconds": round(last.ended - measuring_s(history, last.round - 1), 3),
        "roundSeconds": [round(line.seconds, 4) for line in history.rounds if line.round],
        "bytesUp": summary["bytesUp"],
        "failedAttempts": summary["failedAttempts"],
        "clients": arm.clients,
        "participation": list(summary["participation"]["rounds"].values()),
        "tiers": {name: tier["share"] for name, tier in summary["tiers"].items()},
        "measured": [_point(each, [METRIC]) for each in measured],
        "slowClasses": [_point(each, [f"{METRIC}/{label}" for label in SLOW_CLASSES]) for each in measured],
    }


def _point(each: Measured, metrics: Sequence[str]) -> list[float]:
    """The round, when it was measured, and the mean of these metrics."""
    return [each.round, round(each.at, 3), round(statistics.fmean(each.metrics[name] for name in metrics), 6)]


def main() -> int:
    """Run what is missing, and close with one JSON object; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default=f"{SEEDS[0]}:{SEEDS[-1]}", help="FIRST:LAST, or one")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, help="the file of raw lines")
    parser.add_argument("--summary", type=Path, help="run nothing: say what this file of raw lines says")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="muster-benchmark-") as folder:
        out = given.summary or given.out or Path(folder) / f"{NAME}.jsonl"
        if not given.summary and not _measure(given, Path(folder), out):
            print("CIFAR-10 is not here: set MUSTER_DATA to the folder with unpack_cifar10.py")
            return SKIPPED
        rows = [row for row in read_rows(out) if row["benchmark"] == NAME]
        print(json.dumps({"benchmark": NAME, "clock": "simulated time"} | figures(rows)))
    return 0


def _measure(given: argparse.Namespace, folder: Path, out: Path) -> bool:
    """Whether the data is here."""
    first, _, last = given.seeds.partition(":")
    pieces = list(missing(NAME, ARMS, range(int(first), int(last or first) + 1), given.rounds, read_rows(out)))
    data = cifar10_folder(folder) if pieces else None
    if pieces and data is None:
        return False
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a") as lines:
        for arm, seed in pieces:
            row = run(arm, seed, given.rounds, str(data))
            lines.write(json.dumps(row) + "\n")
            lines.flush()
            print(f"{arm.name}, seed {seed}: {slow_level(row):.1f} points on the slow clients' classes", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
