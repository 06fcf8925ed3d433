"""What a coordinator tells whoever started it: one JSON object a line on standard output.

The display of `muster run`, its metrics file and, on a cluster, the status of the job are all made from these lines.
Logs for people who look for a fault go to standard error.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from typing import BinaryIO

import msgspec

from muster_coordinator.ports import Clock
from muster_spec.types import ResolvedJob
from muster_telemetry.logs import LogFormat, start_logging

log = logging.getLogger("muster.coordinator")


class LineReporter:
    """Writes events as they happen; whole lines only, whatever thread they come from."""

    def __init__(self, out: BinaryIO, clock: Clock) -> None:
        self._out = out
        self._clock = clock
        self._lock = threading.Lock()
        self._is_heard = True

    def tell(self, kind: str, details: Mapping[str, object]) -> None:
        line = msgspec.json.encode({"event": kind, "time": round(self._clock.unix(), 3), **details}) + b"\n"
        with self._lock:
            if self._is_heard:
                self._write(line)

    def _write(self, line: bytes) -> None:
        try:
            self._out.write(line)
            self._out.flush()
        except (BrokenPipeError, ValueError):
            # Whoever read this is gone; rounds go on, and what matters is in the store.
            self._is_heard = False
            log.warning("nobody reads this coordinator's standard output any more")


def log_to_stderr(job: ResolvedJob, log_format: LogFormat, *, debug: bool) -> None:
    """Lines on standard error, each saying whose job it is about where machines read them."""
    fields = {"namespace": job.namespace, "job": job.name}
    handler = start_logging(log_format, level=logging.DEBUG if debug else logging.INFO, fields=fields)
    handler.addFilter(_is_no_cancellation)
    logging.getLogger("grpc").setLevel(logging.ERROR)


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """Calls cut short as their peer or this server leaves are daily life; grpc logs each with a traceback."""
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)
