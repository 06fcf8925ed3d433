"""What every side of the transport benchmark is told, and what it answers: standard library and numpy only.

Each side is a script of its own, because each runs in its own virtual environment. It starts a server and one process a
client, lets models go round, and prints one JSON object: how long each round took, from the moment the server began to
hand the model out until it did so again, or had the last one back.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

TENSORS = 8  # of equal size, in every side's model
CHUNK_BYTES = 2**20  # of a message, where a side has a choice
WARM_UP = 2  # rounds that don't count


@dataclass(frozen=True, slots=True)
class Setting:
    """How many clients, how large a model, and how many rounds count."""

    clients: int
    model_bytes: int
    rounds: int

    @property
    def all_rounds(self) -> int:
        return self.rounds + WARM_UP

    @property
    def tensor_size(self) -> int:
        """Values of one tensor."""
        return self.model_bytes // 4 // TENSORS

    def arguments(self) -> list[str]:
        return [str(self.clients), str(self.model_bytes), str(self.rounds)]


def read_setting(arguments: Sequence[str]) -> tuple[Setting, list[str]]:
    """Of a side's command line; the rest of it says what part of that side this process is."""
    parser = argparse.ArgumentParser()
    for name in ("clients", "model_bytes", "rounds"):
        parser.add_argument(name, type=int)
    given, rest = parser.parse_known_args(arguments)
    return Setting(given.clients, given.model_bytes, given.rounds), rest


def say(seconds: Sequence[float]) -> None:
    """The last word of a side: the rounds that count. Too few of them, and it has failed."""
    if len(seconds) <= WARM_UP:
        raise SystemExit(
            f"{len(seconds)} rounds went round, and the first {WARM_UP} don't count: see what failed above"
        )
    print(json.dumps({"seconds": [round(each, 5) for each in seconds[WARM_UP:]]}), flush=True)


def laps(times: Sequence[float]) -> list[float]:
    """How long each round took, from when each began and the last one ended."""
    return [after - before for before, after in itertools.pairwise(times)]


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def clients_of(script: str, setting: Setting, address: str) -> Iterator[None]:
    """One process a client, of the same script; they are gone when the block is left."""
    command = [sys.executable, script, *setting.arguments(), "client", address]
    processes = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(setting.clients)
    ]
    try:
        yield
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
    finally:
        for process in processes:
            process.kill()
            process.wait()
