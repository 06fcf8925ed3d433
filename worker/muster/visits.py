"""One job of an External worker: a process of its own, so that nothing of a job outlives it, and none meets another's
code.

What it is to do comes as JSON, on a line of its standard input, which stays open for as long as its parent lives. The
credential that it joins with, the pool's certificate of the day, lies in a file that the parent renews.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from muster.errors import DataError
from muster.worker import Join, WorkerSettings, run_worker
from muster_spec.terms import Terms
from muster_telemetry.logs import LogFormat

GRACE_S = 30.0


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """What one process is to work for, and with what."""

    coordinator: str
    pool: str
    bundle: str  # the file
    indices: tuple[int, ...]
    capacity: int
    share: int
    terms: Terms
    audit: str
    data: str | None = None
    state: str | None = None
    log_format: LogFormat = "text"
    metrics: str | None = None

    def settings(self) -> WorkerSettings:
        """As a worker takes them. Raises DataError where there is no bundle."""
        file = Path(self.bundle)
        try:
            text = file.read_text()
        except OSError as error:
            raise DataError(f"{file}: {error.strerror}") from error
        return WorkerSettings(
            coordinator=self.coordinator,
            pool=self.pool,
            indices=self.indices,
            capacity=self.capacity,
            share=self.share,
            data=Path(self.data) if self.data else None,
            state=Path(self.state) if self.state else None,
            security=Join(text, str(file), file),
            log_format=self.log_format,
            metrics=self.metrics,
            terms=self.terms,
            audit=Path(self.audit),
            keeps_credential=False,
        )


class Visitor:
    """The process, as its parent sees it. `on_end` is called from a thread once it has ended."""

    def __init__(self, visit: Visit, on_end: Callable[[], None]) -> None:
        command = [sys.executable, "-m", "muster.visits"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603 -- ourselves
        if self._process.stdin is None:
            raise DataError("no way to tell the worker's process what to do")
        self._stdin = self._process.stdin
        self._stdin.write(msgspec.json.encode(visit) + b"\n")
        self._stdin.flush()
        self._on_end = on_end
        threading.Thread(target=self._watch, name="muster-visit", daemon=True).start()

    def _watch(self) -> None:
        self._process.wait()
        self._on_end()

    @property
    def code(self) -> int | None:
        """Its exit code, as shells say it; None while it runs."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def stop(self) -> int:
        """Have it end at the next batch, or else at once; its exit code."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        return self.code or 0

    def close(self) -> None:
        self._stdin.close()


def main() -> int:
    """What the process runs."""
    visit = msgspec.json.decode(sys.stdin.buffer.readline(), type=Visit)
    threading.Thread(target=_outlive_nobody, name="muster-tether", daemon=True).start()
    return run_worker(visit.settings())


def _outlive_nobody() -> None:
    """Whoever started this process holds the other end of its standard input for as long as it lives."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
