"""An operator process for tests: it writes down every request that changes something, and may be told to die at one.

    python recorded_operator.py NAMESPACE LOG [--die before|after NUMBER] [--identity NAME]

One line a request: number, method, path. The line comes before the request is sent, and `died …` before the process
kills itself, so that a test can assert that it did.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from muster_operator.__main__ import operate
from muster_operator.build.pools import LobbyAccount
from muster_operator.connection import find_connection
from muster_operator.settings import Install, LobbyInstall, Settings


class Recorder:
    """Sees every request. Leases are renewed all the time and belong to no job, Events are for people."""

    def __init__(self, log: Path, die: tuple[str, int] | None) -> None:
        self._log = log
        self._die = die
        self._count = 0

    def __call__(self, moment: str, method: str, path: str) -> None:
        if method == "GET" or "/leases" in path or "/events" in path:
            return
        if moment == "before":
            self._count += 1
            self._write(f"{self._count} {method} {path}")
        if self._die == (moment, self._count):
            self._write(f"died {moment} {self._count}")
            os.kill(os.getpid(), signal.SIGKILL)

    def _write(self, line: str) -> None:
        with self._log.open("a") as file:
            file.write(line + "\n")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("namespace")
    parser.add_argument("log", type=Path)
    parser.add_argument("--die", nargs=2)
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
    die = (given.die[0], int(given.die[1])) if given.die else None
    return asyncio.run(operate(settings, find_connection(os.environ), Recorder(given.log, die)))


if __name__ == "__main__":
    sys.exit(main())
