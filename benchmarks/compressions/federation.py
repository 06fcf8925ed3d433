"""One real job for the benchmark: a coordinator, a worker process for each client, and a proxy between that counts.

Each client has a process, so that none fetches a model that its neighbour holds already; they are forked from one
nursery, which outlives the runs. The processes are those of `muster run`; only the proxy comes between.
"""

from __future__ import annotations

import json
import select
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muster_cli.folder import RunFolder, make_folder
from muster_cli.job import identify, load_job, write_job
from muster_cli.plan import WorkerPlan, modules_to_preload
from muster_cli.processes import Child, CoordinatorCommand, Nursery, last_words, worker_arguments
from muster_spec.types import ResolvedJob
from proxying import Proxy

TOKEN = "a-token-of-a-benchmark"  # noqa: S105 -- it opens a coordinator on loopback, for seconds
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run gave. Bytes: on the wire as the proxy saw them, and those of models and updates alone."""

    accuracies: tuple[tuple[int, float], ...]
    wire_up: int
    wire_down: int
    payload_up: int
    payload_down: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {
            "accuracies": [[number, round(value, 6)] for number, value in self.accuracies],
            "wireUp": self.wire_up,
            "wireDown": self.wire_down,
            "payloadUp": self.payload_up,
            "payloadDown": self.payload_down,
            "seconds": round(self.seconds, 1),
        }


class Forks:
    """The nursery that all runs fork their workers from."""

    def __init__(self, entrypoint: str, log: Path) -> None:
        self._nursery = Nursery(modules_to_preload(entrypoint), log)

    def start(self, workers: list[WorkerPlan], address: str, folder: RunFolder) -> None:
        for worker in workers:
            arguments = worker_arguments(worker, address, folder.state)
            environment = {"MUSTER_TOKEN": TOKEN}
            self._nursery.start(worker.id, "muster_cli.worker_entry:run", arguments, folder.log(worker.id), environment)

    def wait_for(self, workers: list[WorkerPlan]) -> dict[str, int]:
        """Exit codes of these workers, once all have ended."""
        codes: dict[str, int] = {}
        while {worker.id for worker in workers} - codes.keys():
            events = self._nursery.read_events() if select.select([self._nursery], [], [], PATIENCE_S)[0] else None
            if events is None:
                raise RuntimeError(f"workers didn't end: {len(codes)} of {len(workers)} have")
            codes |= {event["id"]: event["code"] for event in events if event["event"] == "exited"}
        return codes

    def end(self) -> None:
        self._nursery.end()


@contextmanager
def forks_for(entrypoint: str) -> Iterator[Forks]:
    """A nursery with the task's libraries loaded; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="muster-benchmark-") as folder:
        forks = Forks(entrypoint, Path(folder) / "nursery.log")
        try:
            yield forks
        finally:
            forks.end()


def run_job(manifest: Path, settings: Mapping[str, object], data: Path | None, forks: Forks) -> Outcome:
    """Run the job to its end. RuntimeError if it doesn't complete."""
    overrides = [f"{path}={json.dumps(value)}" for path, value in settings.items()]
    with tempfile.TemporaryDirectory(prefix="muster-benchmark-") as name:
        folder = RunFolder(Path(name))
        make_folder(folder)
        job = identify(load_job([manifest], None, overrides), folder)
        write_job(job, folder)
        token_file = folder.path / "token"
        token_file.write_text(TOKEN)
        command = CoordinatorCommand(
            folder.job, folder.checkpoint, ("--token-file", str(token_file)), folder.log("coordinator")
        )
        coordinator = command.start("127.0.0.1:0")
        try:
            return _follow(coordinator, _workers(job, data), folder, forks)
        finally:
            coordinator.kill()
            coordinator.end(PATIENCE_S)


def _workers(job: ResolvedJob, data: Path | None) -> list[WorkerPlan]:
    """One for each client: what one has fetched is no other's."""
    return [
        WorkerPlan(f"{pool.name}-{index}", pool.name, (index,), 1, (str(data) if data else None,))
        for pool in job.pools
        for index in range(pool.spec.clients)
    ]


def _follow(coordinator: Child, workers: list[WorkerPlan], folder: RunFolder, forks: Forks) -> Outcome:
    lines = lines_of(coordinator)
    listening = next(lines, None)
    if listening is None:
        raise RuntimeError(f"the coordinator didn't start: {last_words(folder.log('coordinator'))}")
    accuracies: list[tuple[int, float]] = []
    with Proxy(listening["address"]) as proxy:
        forks.start(workers, proxy.address, folder)
        for event in lines:
            if event["event"] == "evaluated" and event["central"]:
                accuracies.append((event["round"], event["central"]["accuracy"]))
            elif event["event"] == "finished":
                finished = event
        codes = forks.wait_for(workers)
    if finished["outcome"] != "Complete" or any(codes.values()):
        raise RuntimeError(f"the run ended with {finished['message']}, its workers with {sorted(set(codes.values()))}")
    return Outcome(
        tuple(accuracies),
        proxy.up_bytes,
        proxy.down_bytes,
        finished["bytesUp"],
        finished["bytesDown"],
        finished["time"] - listening["time"],
    )


def lines_of(coordinator: Child) -> Iterator[dict[str, Any]]:
    """Its events, as they come, to the end of its output."""
    while True:
        select.select([coordinator], [], [])
        lines = coordinator.read_lines()
        if lines is None:
            return
        yield from map(json.loads, lines)
