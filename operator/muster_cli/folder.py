"""The folder of a run: where it is, what lies in it, and when it may be used again.

muster-runs/digits/2026-01-31T09-15-00Z/
    manifest.yaml       the job as it ran: every default filled in
    metrics.jsonl       every event of the run, one JSON object a line
    checkpoint/         the coordinator's storage; what --resume goes on from
    model.safetensors   the final model, and best.safetensors where another round's was better
    logs/               a log per process
    job.json            the resolved job as the coordinator reads it
    runner.lock         held while a runner is at work in the folder
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from muster_cli.errors import BadInput

RUNS = Path("muster-runs")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Names of the things in a run's folder."""

    path: Path

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.yaml"

    @property
    def job(self) -> Path:
        return self.path / "job.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def state(self) -> Path:
        return self.path / "clients"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def holds_a_run(self) -> bool:
        return self.job.exists() or self.checkpoint.exists()

    def log(self, process: str) -> Path:
        return self.logs / f"{process}.log"


def choose_folder(job: str, out: Path | None, resume: bool, now: datetime) -> RunFolder:
    """The folder for a run of `job`: a fresh one, or with `resume` the one to go on in. Raises BadInput."""
    if not resume:
        return _fresh(out or RUNS / job / f"{now.astimezone(UTC):%Y-%m-%dT%H-%M-%SZ}")
    if out is not None:
        return _existing(out)
    return _newest(job)


def _fresh(path: Path) -> RunFolder:
    folder = RunFolder(path)
    if folder.holds_a_run:
        raise BadInput(f"{path}: already holds a run; go on with it (--resume) or choose another folder (--out)")
    return folder


def _existing(path: Path) -> RunFolder:
    folder = RunFolder(path)
    if not folder.holds_a_run:
        raise BadInput(f"{path}: holds no run to go on with; leave out --resume to start one there")
    return folder


def _newest(job: str) -> RunFolder:
    home = RUNS / job
    runs = sorted((path for path in home.glob("*") if RunFolder(path).holds_a_run), key=lambda path: path.name)
    if not runs:
        raise BadInput(f"{home}: no run of {job} to go on with; leave out --resume, or name its folder with --out")
    return RunFolder(runs[-1])


def make_folder(folder: RunFolder) -> None:
    """Make the folder and what every run has in it. Raises BadInput."""
    try:
        for path in (folder.checkpoint, folder.logs, folder.state):
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder.path}: can't be made ({error.strerror}); choose another folder with --out") from error


def lock_folder(folder: RunFolder) -> int:
    """Hold the folder until this process ends, however it ends. Raises BadInput if another runner holds it."""
    descriptor = os.open(folder.path / "runner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise BadInput(
            f"{folder.path}: another `muster run` is at work there; wait for it or choose another --out"
        ) from error
    return descriptor


def check_data(place: str, path: str) -> None:
    """Raise BadInput unless `path` is a readable directory. `place` says who wants it."""
    try:
        with os.scandir(path):
            pass
    except NotADirectoryError as error:
        raise BadInput(f"{place}: {path} is not a directory; name the directory that holds the data") from error
    except OSError as error:
        raise BadInput(
            f"{place}: {path} can't be read ({error.strerror}); name a directory you can read with --data"
        ) from error
