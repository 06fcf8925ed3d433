"""What one cluster is, on disk: its ports and its processes, so that the next command finds what this one started."""

from __future__ import annotations

import contextlib
import fcntl
import json
import random
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from cluster_parts.processes import Process

_OUTSIDE_EPHEMERAL = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the programs listen: on 127.0.0.1, but for the API server of a cluster with nodes, which reach `host`."""

    etcd: int
    etcd_peer: int
    api: int
    host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class State:
    """The cluster as last written down. A process in it may be gone: `processes.is_running` tells.

    `owner` is the process that the cluster was brought up for, a test session say. A cluster without one stays until
    `down`; one whose owner has died without taking it down is taken down by the next `up` of any other. `network` is
    the number of its nodes' network, 0 for a cluster without nodes.
    """

    ports: Ports
    owner: Process | None = None
    processes: Mapping[str, Process] = field(default_factory=dict)
    nodes: int = 0
    network: int = 0

    def with_process(self, name: str, process: Process) -> State:
        return replace(self, processes={**self.processes, name: process})


def load_state(folder: Path) -> State | None:
    """The cluster in `folder`; None if there is none."""
    try:
        raw = json.loads((folder / "state.json").read_text())
    except FileNotFoundError:
        return None
    processes = {name: Process(**each) for name, each in raw["processes"].items()}
    owner = Process(**raw["owner"]) if raw["owner"] else None
    return State(Ports(**raw["ports"]), owner, processes, raw["nodes"], raw["network"])


def save_state(folder: Path, state: State) -> None:
    """Write it down, whole or not at all."""
    aside = folder / "state.json.new"
    aside.write_text(json.dumps(asdict(state), indent=2))
    aside.rename(folder / "state.json")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One command at a time. The lock lies beside the clusters' folders, since `down` removes those."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def free_ports() -> Ports:
    """Ports that nobody listens on, from below the range that outgoing connections take theirs from."""
    with contextlib.ExitStack() as held:
        numbers = []
        for port in random.sample(_OUTSIDE_EPHEMERAL, k=200):
            listener = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", port))
                numbers.append(port)
            if len(numbers) == 3:
                break
    return Ports(*numbers)
