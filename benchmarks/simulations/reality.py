"""The same job twice: by six real worker processes, each behind a proxy of its own rates, and in simulated time.

Both say how long each round took in the words of the same engine: from the orders to the commit.
"""

from __future__ import annotations

import io
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressions.federation import PATIENCE_S, TOKEN, Forks, forks_for, lines_of
from evaluations.figures import ci95
from muster_cli.folder import RunFolder, make_folder
from muster_cli.job import identify, load_job, write_job
from muster_cli.plan import WorkerPlan
from muster_cli.processes import Child, CoordinatorCommand
from muster_cli.simulation.profile import Machine, Profile
from muster_cli.simulation.scene import simulate
from muster_spec.types import ResolvedJob
from proxying import Direction, Forecast, Proxy, Weather

VALUES, STEPS, STEP_S = 500_000, 20, 0.15  # a model of two megabytes, and three seconds of training at speed 1
ROUNDS = 8

# speed, Mbit/s down, Mbit/s up
MACHINES = ((8.0, 40, 20), (4.0, 40, 10), (2.0, 20, 10), (1.0, 20, 4), (1.0, 10, 4), (0.5, 10, 2))


@dataclass(frozen=True, slots=True)
class Case:
    """One policy, and how the coordinator's bytes are encoded."""

    name: str
    settings: Mapping[str, object]


CASES = (
    Case("all six", {}),
    Case("the fastest four", {"spec.rounds.minUpdates": 4}),
    Case("all six, compressed", {"spec.compression.preset": "balanced"}),
)


def profile() -> Profile:
    """The machines as the simulation has them."""
    machines = tuple(
        Machine(tier=f"client-{place}", speed=speed, down_mbit=down, up_mbit=up, round_trip_ms=1.0)
        for place, (speed, down, up) in enumerate(MACHINES)
    )
    return Profile(name="reality", seconds_per_step=STEP_S, machines=machines)


def job_of(case: Case, folder: Path, step_seconds: float) -> ResolvedJob:
    """The job; its steps take no time of their own where that is simulated."""
    config = {
        "values": VALUES,
        "steps": STEPS,
        "stepSeconds": step_seconds,
        "speeds": [speed for speed, _, _ in MACHINES],
    }
    source = {"type": "Path", "path": {"path": str(Path(__file__).parent)}}
    spec = {
        "task": {"entrypoint": "paced:Paced", "config": config, "source": source},
        "pools": [{"name": "site", "inline": {"type": "Kubernetes", "clients": len(MACHINES), "trusted": True}}],
        "rounds": {"total": ROUNDS, "deadlineSeconds": 120},
        "evaluation": {"every": ROUNDS, "central": {"type": "Never"}, "federated": False},
    }
    manifest = folder / "job.yaml"
    document = {"apiVersion": "muster.dev/v1alpha1", "kind": "FederatedJob", "metadata": {"name": "r"}, "spec": spec}
    manifest.write_text(json.dumps(document))
    return load_job([manifest], None, [f"{path}={json.dumps(value)}" for path, value in case.settings.items()])


def simulated_rounds(case: Case) -> list[float]:
    """Seconds of simulated time."""
    with tempfile.TemporaryDirectory(prefix="muster-benchmark-") as folder:
        job = job_of(case, Path(folder), 0.0)
        made = simulate(job, profile(), None, io.BytesIO(), surrogate=False)
    return [line.seconds for line in made.history.rounds if line.round]


def real_rounds(case: Case) -> list[float]:
    """Seconds by the clock."""
    with tempfile.TemporaryDirectory(prefix="muster-benchmark-") as name, forks_for("paced:Paced") as forks:
        folder = RunFolder(Path(name))
        make_folder(folder)
        job = identify(job_of(case, folder.path, STEP_S), folder)
        write_job(job, folder)
        token_file = folder.path / "token"
        token_file.write_text(TOKEN)
        command = CoordinatorCommand(
            folder.job, folder.checkpoint, ("--token-file", str(token_file)), folder.log("coordinator")
        )
        coordinator = command.start("127.0.0.1:0")
        try:
            return _follow(coordinator, folder, forks)
        finally:
            coordinator.kill()
            coordinator.end(PATIENCE_S)


def _follow(coordinator: Child, folder: RunFolder, forks: Forks) -> list[float]:
    lines = lines_of(coordinator)
    address = next(lines)["address"]
    workers = [WorkerPlan(f"site-{place}", "site", (place,), 1, (None,)) for place in range(len(MACHINES))]
    with ExitStack() as stack:
        for worker, (_, down, up) in zip(workers, MACHINES, strict=True):
            proxy = stack.enter_context(Proxy(address, _weather(down, up)))
            forks.start([worker], proxy.address, folder)
        seconds = [event["seconds"] for event in lines if event["event"] == "committed" and event["round"]]
        forks.wait_for(workers)
    return seconds


def _weather(down_mbit: float, up_mbit: float) -> Forecast:
    rates = {Direction.DOWN: down_mbit * 1e6 / 8, Direction.UP: up_mbit * 1e6 / 8}
    return lambda _connection, direction: Weather(bytes_per_s=rates[direction])


def compared(real: Sequence[float], simulated: Sequence[float]) -> dict[str, Any]:
    """Mean rounds, and how far the simulation's is from the real one, in percent: the mean over pairs of rounds."""
    ours, theirs = statistics.fmean(simulated), statistics.fmean(real)
    off = [100 * (one - other) / theirs for one, other in zip(simulated, real, strict=True)]
    return {
        "real_seconds": round(theirs, 3),
        "simulated_seconds": round(ours, 3),
        "off_percent": round(statistics.fmean(off), 2),
        "ci95": ci95(off),
        "rounds": len(off),
        "against": f"{len(MACHINES)} real worker processes behind proxies",
    }
