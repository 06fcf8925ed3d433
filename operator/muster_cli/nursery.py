"""The process that workers are forked from: it imports PyTorch once, so that ten workers start in the time of one.

It is a program of its own (``python -m muster_cli.nursery``) that takes orders as JSON lines on stdin and answers with
JSON lines on stdout. Why not multiprocessing's forkserver: that one pickles what it sends, swallows a preload that
fails, can't give a child its own log and environment before any code runs, and its children survive a killed runner.
This one has a single thread, and neither imports gRPC nor touches a tensor or the GPU before a fork: none of that would
survive one.

Orders:   {"do": "start", "id", "entry", "arguments": {…}, "log", "environment": {…}} · {"do": "signal", "id", "signal"}
Answers:  {"event": "ready", "threads", "grpc", "cuda"} · {"event": "started", "id", "pid"}
          {"event": "exited", "id", "code"}
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from muster_cli.tether import tie_to_parent


class Nursery:
    """Forks children on request and says how they ended."""

    def __init__(self, orders: int, answers: int) -> None:
        self._orders = orders
        self._answers = answers
        self._children: dict[int, str] = {}
        self._unread = b""
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)

    def serve(self) -> None:
        """Work until the runner closes our stdin; then nothing may be left."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._answer(event="ready", threads=count_threads(), grpc="grpc" in sys.modules, cuda=is_cuda_initialised())
        while True:
            readable, _, _ = select.select([self._orders, self._wake_read], [], [])
            if self._wake_read in readable:
                os.read(self._wake_read, 4096)
                self._reap()
            if self._orders in readable and not self._take_orders():
                break
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
        for pid in self._children:
            os.waitpid(pid, 0)

    def _take_orders(self) -> bool:
        chunk = os.read(self._orders, 1 << 16)
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))
        return bool(chunk)

    def _obey(self, order: Mapping[str, Any]) -> None:
        if order["do"] == "start":
            self._start(order)
            return
        for pid, name in self._children.items():
            if name == order["id"]:
                os.kill(pid, order["signal"])

    def _start(self, order: Mapping[str, Any]) -> None:
        nursery = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become(order, nursery)
        self._children[pid] = order["id"]
        self._answer(event="started", id=order["id"], pid=pid)

    def _become(self, order: Mapping[str, Any], nursery: int) -> NoReturn:
        """Never come back from here: this is the child."""
        code = 1
        try:
            tie_to_parent(nursery)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (self._wake_read, self._wake_write):
                os.close(descriptor)
            redirect(Path(order["log"]), answers=self._answers)
            os.environ.update(order["environment"])
            code = run_entry(order["entry"], order["arguments"])
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        for pid, status in _ended_children():
            self._answer(event="exited", id=self._children.pop(pid), code=os.waitstatus_to_exitcode(status))

    def _answer(self, **fields: object) -> None:
        os.write(self._answers, json.dumps(fields).encode() + b"\n")


def _ended_children() -> Iterator[tuple[int, int]]:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def run_entry(entry: str, arguments: Mapping[str, Any]) -> int:
    """Call ``module:function`` with these arguments; its answer is the exit code. A traceback goes to the log."""
    module, _, function = entry.partition(":")
    try:
        return int(getattr(importlib.import_module(module), function)(**arguments))
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the log, and we must not go on
        sys.excepthook(type(error), error, error.__traceback__)
        return 1


def redirect(log: Path, answers: int) -> None:
    """Let everything a child says, libraries in C included, go to its log, and let it hear nothing."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(written, 1)
    os.dup2(written, 2)
    os.close(written)
    if answers > 2:
        os.close(answers)


def count_threads() -> int:
    """Threads of this process, those of libraries in C too where the system can tell."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()


def is_cuda_initialised() -> bool:
    """Whether PyTorch has touched a GPU. Asking does not."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def main() -> None:
    """Preload, then serve. What we print ourselves goes to the answers; stdout of libraries goes to stderr, our log."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parent", type=int)
    parser.add_argument("preload", nargs="*")
    options = parser.parse_args()
    tie_to_parent(options.parent)
    answers = os.dup(1)
    os.dup2(2, 1)
    for module in options.preload:
        importlib.import_module(module)
    gc.freeze()  # children share these pages: keep the collector from touching them
    Nursery(0, answers).serve()


if __name__ == "__main__":
    main()
