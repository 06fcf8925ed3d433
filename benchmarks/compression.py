"""What the presets of `compression` save, and what they cost in accuracy, beside float32 on the same seeds.

Real jobs, a process for each client, every byte counted by a proxy outside both ends: first contacts, evaluations and
the protocol's own bytes included. With --out, results are added to a file of raw lines, so that a long series can be
stopped and gone on with: what is in the file is not run again. Seeds from 1000 on are for trials: presets are tuned on
those, and frozen before the others run.

    benchmarks/compression.py                        everything: 20 seeds of digits, 5 of CIFAR-10; hours on two cores
    benchmarks/compression.py --datasets digits --seeds 1000 --presets none max       a trial
    benchmarks/compression.py --summary benchmarks/results/compression.jsonl          figures of lines that are there
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from compressions.federation import Forks, forks_for, run_job  # noqa: E402 -- after the path
from compressions.summary import summarise  # noqa: E402

PRESETS = ("none", "light", "balanced", "max")
SKIPPED = 77
TRAIN, TEST = 12_000, 5_000  # of CIFAR-10's images: what two cores get through
RECORD = 1 + 3 * 32 * 32


@dataclass(frozen=True, slots=True)
class Dataset:
    """`target`: the accuracy whose round is reported."""

    name: str
    entrypoint: str
    seeds: range
    target: float

    @property
    def manifest(self) -> Path:
        return HERE / "compressions" / f"{self.name}.yaml"


DATASETS = {
    "digits": Dataset("digits", "muster.tasks.digits:Digits", range(20), 0.90),
    "cifar10": Dataset("cifar10", "muster.tasks.cifar10:Cifar10", range(5), 0.40),
}


def cifar10_folder(folder: Path) -> Path | None:
    """A part of CIFAR-10 in its binary version, or None where there is no copy of it."""
    source = Path(os.environ.get("MUSTER_DATA", HERE.parent.parent / "shared" / "data")) / "unpack_cifar10.py"
    if not source.exists():
        return None
    subprocess.run([sys.executable, source, folder / "whole"], check=True, stdout=subprocess.DEVNULL)
    part = folder / "cifar-10-batches-bin"
    part.mkdir()
    whole = folder / "whole" / part.name
    for number in range(1, 6):
        _some(whole / f"data_batch_{number}.bin", TRAIN // 5).tofile(part / f"data_batch_{number}.bin")
    _some(whole / "test_batch.bin", TEST).tofile(part / "test_batch.bin")
    return folder


def _some(path: Path, images: int) -> np.ndarray[Any, Any]:
    """So many images from all over the file: the copy that we have keeps its test images class by class."""
    records = np.fromfile(path, np.uint8).reshape(-1, RECORD)
    return records[:: len(records) // images][:images]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The raw lines that are there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def missing(
    dataset: Dataset, seeds: range, presets: list[str], rows: list[dict[str, Any]]
) -> Iterator[tuple[int, str]]:
    """What is still to be run, seed by seed."""
    done = {(row["seed"], row["preset"]) for row in rows if row["dataset"] == dataset.name}
    return ((seed, preset) for seed in seeds for preset in presets if (seed, preset) not in done)


def measure(dataset: Dataset, work: list[tuple[int, str]], data: Path | None, out: Path) -> None:
    """Run each and add its line."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with forks_for(dataset.entrypoint) as forks, out.open("a") as lines:
        for seed, preset in work:
            row = {"dataset": dataset.name, "preset": preset, "seed": seed} | _run(dataset, seed, preset, data, forks)
            lines.write(json.dumps(row) + "\n")
            lines.flush()
            wire, last = row["wireUp"] + row["wireDown"], row["accuracies"][-1][1]
            print(
                f"{dataset.name} seed {seed} {preset}: {wire / 1e6:.1f} MB, accuracy {last:.3f}, {row['seconds']} s",
                flush=True,
            )


def _run(dataset: Dataset, seed: int, preset: str, data: Path | None, forks: Forks) -> dict[str, Any]:
    settings = {"spec.seed": seed, "spec.compression.preset": preset}
    return run_job(dataset.manifest, settings, data, forks).as_json()


def main() -> int:
    """Run what is missing, and close with one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--presets", nargs="+", default=list(PRESETS))
    parser.add_argument("--seeds", help="FIRST:LAST, or one")
    parser.add_argument("--out", type=Path, help="the file of raw lines")
    parser.add_argument("--summary", type=Path, help="run nothing: say what this file of raw lines says")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="muster-benchmark-") as folder:
        out = given.summary or given.out or Path(folder) / "compression.jsonl"
        for name in [] if given.summary else given.datasets:
            if not _measure(DATASETS[name], given, Path(folder), out):
                print("CIFAR-10 is not here: set MUSTER_DATA to the folder with unpack_cifar10.py")
                return SKIPPED
        targets = {name: dataset.target for name, dataset in DATASETS.items()}
        print(json.dumps({"benchmark": "compression"} | summarise(read_rows(out), targets)))
    return 0


def _measure(dataset: Dataset, given: argparse.Namespace, folder: Path, out: Path) -> bool:
    """Whether its data is here."""
    seeds = _seeds(given.seeds) if given.seeds else dataset.seeds
    work = list(missing(dataset, seeds, given.presets, read_rows(out)))
    needs_data = bool(work) and dataset.name == "cifar10"
    data = cifar10_folder(folder) if needs_data else None
    if needs_data and data is None:
        return False
    if work:
        measure(dataset, work, data, out)
    return True


def _seeds(text: str) -> range:
    first, _, last = text.partition(":")
    return range(int(first), int(last or first) + 1)


if __name__ == "__main__":
    sys.exit(main())
