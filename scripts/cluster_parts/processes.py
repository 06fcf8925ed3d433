"""Starts programs that outlive the command, and stops them: by process id *and* start time, never by name.

A process id alone may be somebody else's by the time we look. With the kernel's start time beside it, it is ours or
it is gone; a pidfd keeps it so between the look and the signal.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Process:
    """A process that we started. `started` is in clock ticks since boot, as the kernel counts them."""

    pid: int
    started: int


def start_process(argv: Sequence[str], folder: Path, log: Path) -> Process:
    """Run `argv` in a session of its own, so that Ctrl-C in this terminal doesn't reach it."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    child.returncode = 0  # it is to outlive us: tell Popen that nobody has to wait for it
    return Process(child.pid, _start_ticks(child.pid) or 0)


def find_process(pid: int) -> Process | None:
    """The process that has this id now."""
    started = _start_ticks(pid)
    return None if started is None else Process(pid, started)


def is_running(process: Process) -> bool:
    """Whether it is still there: the very process, not one that got its id since."""
    return _start_ticks(process.pid) == process.started


def stop_process(process: Process) -> None:
    """Ask it to end, wait, then end it. Returns when it is gone, at once if it already is."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not is_running(process):
                return
            signal.pidfd_send_signal(handle, number)
            select.select([handle], [], [], _PATIENCE_S)
    finally:
        os.close(handle)


def _start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat; None for a process that is gone or only waits to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return None if state in "ZX" else int(fields[18])
