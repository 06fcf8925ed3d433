"""The runner's ends of its two direct children: the coordinator, and the nursery that workers are forked from.

Neither waits for anything: the session's loop asks for lines when a pipe has some. Both children live in sessions of
their own, so that a Ctrl-C in the terminal reaches only the runner, which then stops everything in the right order.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from muster_cli.plan import WorkerPlan
from muster_telemetry.logs import message_of

NURSERY_PATIENCE_S = 0.5
LOG_PREFIX = re.compile(r"^([\d-]+ )?[\d:,]+ [A-Z]+ ")  # when and how grave


class Child:
    """A child process that talks in lines on its stdout and logs to a file."""

    def __init__(self, module: str, arguments: list[str], log: Path, environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "muster_cli.tether", str(os.getpid()), module, *arguments]
        with log.open("ab") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self._unread = b""
        os.set_blocking(self.fileno(), False)

    def fileno(self) -> int:
        return _open(self._process.stdout).fileno()

    @property
    def pid(self) -> int:
        return self._process.pid

    def read_lines(self) -> list[bytes] | None:
        """Whole lines that have come; None when the child has closed its end. A torn last line is dropped."""
        try:
            chunk = os.read(self.fileno(), 1 << 16)
        except BlockingIOError:
            return []
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        return lines if chunk else None

    def write_line(self, line: bytes) -> None:
        """Say something to the child, if it still listens: one that has died is noticed by its closed stdout."""
        try:
            os.write(_open(self._process.stdin).fileno(), line + b"\n")
        except BrokenPipeError:
            return

    def hang_up(self) -> None:
        """Nothing more will be said to it."""
        _open(self._process.stdin).close()

    def signal(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Its exit code, or None if it is still running after `timeout_s`."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def end(self, patience_s: float) -> int:
        """Wait that long for it to end, then kill it. Its exit code."""
        if self.wait(patience_s) is None:
            self._process.kill()
        code = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            _open(pipe).close()
        return code


def _open(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("a child is always started with pipes")
    return pipe


@dataclass(frozen=True, slots=True)
class CoordinatorCommand:
    """How to start the coordinator of this run, again and again if need be."""

    job: Path
    storage: Path
    security: tuple[str, ...]  # its options that say who may talk to it
    log: Path
    metrics: str | None = None
    store: str = ""  # an object store, of which `storage` then is a copy

    def start(self, listen: str) -> Child:
        places = (
            ["--storage", self.store, "--scratch", str(self.storage)]
            if self.store
            else ["--storage", str(self.storage)]
        )
        arguments = ["--job", str(self.job), *places, "--listen", listen]
        arguments += self.security
        arguments += ["--metrics", self.metrics] if self.metrics else []
        return Child("muster_coordinator", arguments, self.log, {})


class Nursery:
    """Starts worker processes, and says how they ended."""

    def __init__(self, preload: Sequence[str], log: Path) -> None:
        # One thread each until a child says otherwise: a library that starts threads when it is imported would break
        # the fork, and ten workers with a thread a core would fight for the cores.
        single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._child = Child("muster_cli.nursery", [str(os.getpid()), *preload], log, single)

    def fileno(self) -> int:
        return self._child.fileno()

    def start(
        self, name: str, entry: str, arguments: Mapping[str, Any], log: Path, environment: Mapping[str, str]
    ) -> None:
        """Fork a child that calls ``module:function`` with these arguments."""
        order = {"do": "start", "id": name, "entry": entry, "arguments": arguments, "log": str(log)}
        self._child.write_line(json.dumps({**order, "environment": dict(environment)}).encode())

    def signal(self, name: str, number: int) -> None:
        self._child.write_line(json.dumps({"do": "signal", "id": name, "signal": int(number)}).encode())

    def read_events(self) -> list[dict[str, Any]] | None:
        """What happened to children; None when the nursery itself is gone."""
        lines = self._child.read_lines()
        return None if lines is None else [json.loads(line) for line in lines]

    def kill(self) -> None:
        self._child.kill()

    def end(self) -> int:
        """Let the nursery kill what is left of its children, and leave."""
        self._child.hang_up()
        return self._child.end(NURSERY_PATIENCE_S)


def worker_arguments(worker: WorkerPlan, coordinator: str, state: Path) -> dict[str, Any]:
    """What `muster_cli.worker_entry:run` is called with in the forked child."""
    return {
        "coordinator": coordinator,
        "pool": worker.pool,
        "indices": list(worker.indices),
        "data": list(worker.data),
        "state": str(state / worker.id),
        "threads": worker.threads,
    }


def last_words(log: Path) -> str:
    """The last line of a log: what a process that gave up said about it."""
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        return ""
    words = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return LOG_PREFIX.sub("", message_of(words))
