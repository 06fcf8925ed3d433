"""An operator process for tests: it writes down every request that changes something, and may be told to die at some.

    python recorded_operator.py NAMESPACE LOG [--mortal] [--identity NAME]

LOG gets one line a request, `METHOD path`, before the request is sent. A mortal one heeds a file called `doom`
beside LOG: `once|ever before|after STAGE`. It kills itself at the first call that none has died at yet in that stage,
right before it is sent or right after it was answered, and is followed by another process, as a kubelet does it: with
`once` by one that lives, with `ever` by one that dies at the next call. A pool is looked at beside its jobs, so that
whoever dies there may have a job's request under way: for that reason, `ever` is of jobs only. The file `deaths` has a
line for each death, written before it, so that a test can assert that it was died.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from muster_cli.tether import tie_to_parent
from muster_operator.__main__ import operate
from muster_operator.build.pools import LobbyAccount
from muster_operator.connection import find_connection
from muster_operator.settings import Install, LobbyInstall, Settings

_DIGEST = re.compile(r"-[0-9a-f]{6,}(?=$|[-/])")


class Recorder:
    """Sees every request. Leases are renewed all the time and belong to no job, Events are for people."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._doom, self._deaths = log.with_name("doom"), log.with_name("deaths")
        self._wish = ""
        self._counts = collections.Counter[str]()

    def __call__(self, moment: str, method: str, path: str) -> None:
        if method == "GET" or "/leases" in path or "/events" in path:
            return
        if moment == "before":
            _append(self._log, f"{method} {path}")
        wish = self._doom.read_text() if self._doom.exists() else ""
        if wish != self._wish:
            self._wish, self._counts = wish, collections.Counter()
        if wish.split()[1:2] == [moment]:
            self._judge(wish, f"{method} {plain(path.partition('/namespaces/')[2].partition('/')[2])}")

    def _judge(self, wish: str, call: str) -> None:
        how_often, moment, stage, *_ = wish.split()
        if how_often == "ever" and "clientpools" in call:
            return
        self._counts[call] += 1
        death = f"{moment} {stage} {call} {self._counts[call]}"
        if death in (self._deaths.read_text().splitlines() if self._deaths.exists() else ()):
            return
        _append(self._deaths, death)
        if how_often == "once":
            self._doom.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def plain(path: str) -> str:
    """Without the digests and numbers that names have."""
    return _DIGEST.sub("", path)


def _append(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(line + "\n")


def keep_alive(live: Callable[[], int]) -> int:
    """Live in a process, and in another when that was killed. The exit code of the one that wasn't."""
    parent = os.getpid()
    while True:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            tie_to_parent(parent)
            os._exit(live())
        signal.signal(signal.SIGTERM, lambda *_, child=child: os.kill(child, signal.SIGTERM))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != -signal.SIGKILL:
            return code


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("namespace")
    parser.add_argument("log", type=Path)
    parser.add_argument("--mortal", action="store_true")
    parser.add_argument("--identity", default="the-operator-of-this-test")
    parser.add_argument("--probes", type=int, help="the port of probes and metrics; any one by default")
    parser.add_argument("--lobby", help="where sites dial the lobby")
    given = parser.parse_args()
    name = f"{given.namespace}-lobby"  # the release is called after the namespace
    lobby = LobbyInstall(given.lobby, name, LobbyAccount(given.namespace, name)) if given.lobby else None
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = Settings(
        install=Install(coordinator_image="coordinator:1", worker_image="worker:1", lobby=lobby),
        lease_namespace=given.namespace,
        identity=given.identity,
        namespaces=(given.namespace,),
        probe_port=given.probes or port,
    )

    def live() -> int:
        return asyncio.run(operate(settings, find_connection(os.environ), Recorder(given.log)))

    return keep_alive(live) if given.mortal else live()


if __name__ == "__main__":
    sys.exit(main())
