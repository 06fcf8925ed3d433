"""What the benchmarks that train real jobs share: `muster run --json`, once for each seed."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def run_seeds(job: str, seeds: Iterable[int], *arguments: str) -> list[dict[str, Any]]:
    """The closing events of one run a seed. Exits with the run's own words if one fails."""
    results = []
    for seed in seeds:
        result = run_job(job, f"--set=spec.seed={seed}", *arguments)
        shown = {name: result[name] for name in ("accuracy", "baselines", "seconds")}
        print(f"seed {seed}: {json.dumps(shown)}", flush=True)
        results.append(result)
    return results


def run_job(job: str, *arguments: str) -> dict[str, Any]:
    """The closing event of one run."""
    with tempfile.TemporaryDirectory(prefix="muster-benchmark-") as folder:
        run = [sys.executable, "-m", "muster_cli.main", "run", str(ROOT / job), "--json", f"--out={folder}/run"]
        done = subprocess.run([*run, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{job} failed: {done.stderr.strip()}")
    closing: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return closing


def mean(values: Iterable[float]) -> float:
    """The mean, to six digits: what a closing line shows."""
    listed = list(values)
    return round(sum(listed) / len(listed), 6)
