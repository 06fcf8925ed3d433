"""What a simulation costs, and how near it is to reality.

First a federation of 5,000 clients for a hundred rounds of five hundred, trained by surrogate on one core: time and
memory. Then the same job by six real worker processes behind proxies of limited rates, and in simulated time: the mean
round has to be within 15 %.

    benchmarks/simulator.py                        both: some ten minutes
    benchmarks/simulator.py --only reality
    benchmarks/simulator.py --clients 1000 --rounds 10 --only cost
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from simulations.reality import CASES, compared, real_rounds, simulated_rounds  # noqa: E402 -- after the path

JOB = HERE.parent / "examples" / "digits" / "job.yaml"
BOUND_PERCENT = 15


def cost(clients: int, rounds: int) -> dict[str, Any]:
    """Seconds by the clock and of the processor, and the most memory that was held, of a process of its own."""
    with tempfile.TemporaryDirectory(prefix="muster-benchmark-") as folder:
        settings = {"rounds.cohort": clients // 10, "rounds.total": rounds, "local.learningRate": 0.001}
        changes = [part for path, value in settings.items() for part in ("--set", f"spec.{path}={value}")]
        options = ["--profile", "tiers", "--surrogate", "--clients", str(clients), "--out", folder, *changes]
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "muster_cli.main", "simulate", JOB, *options],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds = time.monotonic() - began
        summary = json.loads((Path(folder) / "results.jsonl").read_text().splitlines()[-1])
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    updates = round(summary["updatesPerRound"] * summary["rounds"])
    return {
        "clients": clients,
        "rounds": summary["rounds"],
        "updates": updates,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "ms_of_cpu_an_update": round(1000 * (used.ru_utime + used.ru_stime) / updates, 2),
        "peak_mb": used.ru_maxrss // 1024,
        "simulated_seconds": round(summary["simulatedSeconds"], 1),
    }


def reality() -> dict[str, Any]:
    """Each case twice."""
    found = {}
    for case in CASES:
        found[case.name] = compared(real_rounds(case), simulated_rounds(case))
        print(f"{case.name}: {json.dumps(found[case.name])}", flush=True)
    return verdict(found)


def verdict(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Whether the case that is furthest off, by its mean, is within the bound."""
    worst = max(abs(case["off_percent"]) for case in found.values())
    return {
        "cases": found,
        "worst_percent": worst,
        "bound": {"at most": BOUND_PERCENT},
        "decided_on": "mean",
        "within": worst <= BOUND_PERCENT,
    }


def main() -> int:
    """Both, or one, and one JSON object to close with; 1 if the simulation is too far from reality."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("cost", "reality"))
    parser.add_argument("--clients", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=100)
    given = parser.parse_args()
    result: dict[str, Any] = {"benchmark": "simulator"}
    if given.only != "reality":
        result["cost"] = cost(given.clients, given.rounds)
        print(json.dumps(result["cost"]), flush=True)
    if given.only != "cost":
        result["reality"] = reality()
    print(json.dumps(result))
    return exit_code(result)


def exit_code(result: Mapping[str, Any]) -> int:
    """A cost has no bound."""
    return int("reality" in result and not result["reality"]["within"])


if __name__ == "__main__":
    sys.exit(main())
