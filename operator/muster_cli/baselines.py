"""What the federation is worth: the same model trained on everybody's data in one place, and by each client alone.

Both are measured after training, in processes forked like workers, at the same time. Each passes over its data as
often as a client of the federated run did on average: the three figures differ in who shares what and in nothing else.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from muster_cli.folder import RunFolder
from muster_cli.session import Session
from muster_cli.view import Event, View
from muster_spec.types import ResolvedJob

ENTRY = "muster_cli.baseline_entry:measure"
NAMES = ("pooled", "localOnly")


def measure_baselines(
    session: Session, job: ResolvedJob, data: str | None, view: View, folder: RunFolder, tell: Callable[[Event], None]
) -> None:
    """Measure both and tell the scores; somebody who stops us now only skips them."""
    tell({"event": "baselines", "time": time.time(), "phase": "measuring the baselines (Ctrl-C skips them)"})
    passes = data_passes(job, view)
    results = {name: folder.path / f"baseline-{name}.json" for name in NAMES}
    for name, result in results.items():
        arguments = {
            "name": name,
            "job": str(folder.job),
            "data": data,
            "passes": passes,
            "threads": max(1, (os.cpu_count() or 1) // len(NAMES)),
            "result": str(result),
        }
        session.fork(f"baseline-{name}", ENTRY, arguments)
    ended = session.wait_for({f"baseline-{name}" for name in NAMES})
    scores = {name: _read_score(result) for name, result in results.items()}
    tell({"event": "baselines", "time": time.time(), "phase": "finished" if ended else "baselines skipped", **scores})


def data_passes(job: ResolvedJob, view: View) -> int:
    """How often a client of this run passed over its own data, on average, rounded."""
    return max(1, round(view.updates * job.spec.local.epochs / job.clients_total))


def _read_score(result: Path) -> float | None:
    try:
        score = json.loads(result.read_text())["accuracy"]
    except (OSError, ValueError, KeyError):
        return None
    result.unlink()
    return None if score is None else float(score)
