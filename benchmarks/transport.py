"""How fast models go round: Muster beside Flower's gRPC path, bare grpcio streaming, and raw TCP over loopback.

No-op training rounds in one topology: a server, one process a client, loopback. Sides take turns, so that a busy
machine slows all alike, and each figure is a ratio of medians over all their rounds after two that warm up. Muster's
round ends when the model and its record are durable; no other side stores anything. Flower runs in a virtual
environment of its own, made by pip at the first run; bare grpcio and TCP in the one of this checkout.

`vs_flower_…` says how many times faster than Flower a round is, `vs_grpc` and `vs_tcp` which share of their speed
Muster reaches with 8 clients and 25 MB. `vs_flower_8x25mb_mtls` is Muster over mutual TLS beside Flower without TLS.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import venv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

SIDES = Path(__file__).parent / "transports"
FLOWER = "flwr==1.41.*"
GIVE_UP_S = 300


@dataclass(frozen=True, slots=True)
class Case:
    """So many clients with a model of so many bytes, and who is measured."""

    name: str
    clients: int
    model_bytes: int
    sides: tuple[str, ...]


CASES = (
    Case("8x25mb", 8, 25_000_000, ("muster", "muster_mtls", "flower", "grpc", "tcp")),
    Case("4x1mb", 4, 1_000_000, ("muster", "flower")),
    Case("32x10kb", 32, 10_000, ("muster", "flower")),
)


def environments() -> Path:
    """Where peers' virtual environments are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "muster" / "bench-venvs"


def flower_python() -> Path:
    """The interpreter of Flower's environment, which is made if it isn't there."""
    folder = environments() / "flower"
    python = folder / "bin" / "python"
    ready = folder / ".installed"
    if not ready.exists() or ready.read_text() != FLOWER:
        print(f"installing {FLOWER} in {folder}", flush=True)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", FLOWER], check=True)
        ready.write_text(FLOWER)
    return python


def run_side(side: str, case: Case, rounds: int) -> list[float]:
    """The seconds of each round that counts."""
    python = flower_python() if side == "flower" else Path(sys.executable)
    command = [python, SIDES / f"{side}_side.py", str(case.clients), str(case.model_bytes), str(rounds)]
    quiet = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "GRPC_VERBOSITY": "ERROR"}
    done = subprocess.run(command, env=quiet, capture_output=True, text=True, timeout=GIVE_UP_S, check=False)
    if done.returncode:
        raise SystemExit(f"{side}, {case.name}: {done.stderr[-2000:]}")
    seconds: list[float] = json.loads(done.stdout.splitlines()[-1])["seconds"]
    return seconds


def measure(case: Case, rounds: int, turns: int) -> dict[str, float]:
    """The median round of each side, in seconds."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(turns):
        for side in case.sides:
            seconds[side] += run_side(side, case, rounds)
    medians = {side: statistics.median(laps) for side, laps in seconds.items()}
    for side, laps in seconds.items():
        both_ways = 2 * case.clients * case.model_bytes / medians[side] / 1e6
        print(
            f"{case.name:8} {side:11} median {1000 * medians[side]:7.1f} ms a round, {min(laps) * 1000:.1f} to "
            f"{max(laps) * 1000:.1f} in {len(laps)}; {both_ways:.0f} MB/s of models, both ways together",
            flush=True,
        )
    return medians


def closing(medians: dict[str, dict[str, float]]) -> dict[str, float]:
    """The ratios that are asked for, of the cases that were run."""
    ratios = {
        f"vs_flower_{name}": sides["flower"] / sides["muster"] for name, sides in medians.items() if "flower" in sides
    }
    for name, sides in medians.items():
        if "muster_mtls" in sides:
            ratios[f"vs_flower_{name}_mtls"] = sides["flower"] / sides["muster_mtls"]
        ratios |= {f"vs_{peer}": sides[peer] / sides["muster"] for peer in ("grpc", "tcp") if peer in sides}
    return {name: round(ratio, 3) for name, ratio in ratios.items()}


def main() -> None:
    """Measure every case, or the ones that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES])
    parser.add_argument("--rounds", type=int, default=5, help="that count, of each turn")
    parser.add_argument("--turns", type=int, default=2)
    given = parser.parse_args()
    wanted = given.case or [case.name for case in CASES]
    medians = {case.name: measure(case, given.rounds, given.turns) for case in CASES if case.name in wanted}
    print(json.dumps(closing(medians)))


if __name__ == "__main__":
    main()
