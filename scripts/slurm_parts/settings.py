"""What one private SLURM is: where it lies, its ports, and its slurm.conf.

It lies below /run, since slurmrestd runs as another user and has to read its configuration, and nothing of it is to be
there after a reboot. Four nodes share this machine; two partitions differ in PriorityTier, so that preemption happens.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NODES = ("n1", "n2", "n3", "n4")
HOME = Path("/run/muster-slurm")
_OUTSIDE_EPHEMERAL = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the daemons listen, all on 127.0.0.1."""

    slurmctld: int
    slurmrestd: int
    nodes: tuple[int, ...]


def cache_of(release: str) -> Path:
    """The root folder of another Debian release, with its SLURM in it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "muster" / f"slurm-{release}"


def folder_of(name: str) -> Path:
    """The folder of the SLURM of that name."""
    return HOME / name


def free_ports() -> Ports:
    """Ports that nobody listens on, from below the range that outgoing connections take theirs from."""
    numbers: list[int] = []
    with contextlib.ExitStack() as held:
        for port in random.sample(_OUTSIDE_EPHEMERAL, k=200):
            listener = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", port))
                numbers.append(port)
    return Ports(numbers[0], numbers[1], tuple(numbers[2 : 2 + len(NODES)]))


def write_configuration(folder: Path, ports: Ports, changes: Sequence[str]) -> None:
    """slurm.conf. A line of `changes` takes the place of ours with the same key."""
    changed = {line.partition("=")[0]: line for line in changes}
    lines = [changed.pop(line.partition("=")[0], line) for line in _settings(folder, ports)]
    (folder / "slurm.conf").write_text("\n".join([*lines, *changed.values(), *_nodes(ports), ""]))


def _settings(folder: Path, ports: Ports) -> list[str]:
    return [
        f"ClusterName=muster-{folder.name}",
        f"SlurmctldHost={socket.gethostname()}(127.0.0.1)",
        f"SlurmctldPort={ports.slurmctld}",
        "SlurmUser=root",
        "SlurmdUser=root",
        "AuthType=auth/munge",
        f"AuthInfo=socket={folder}/munge/socket",
        "AuthAltTypes=auth/jwt",
        f"AuthAltParameters=jwt_key={folder}/jwt.key",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool/%n",
        f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/spool/%n.pid",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "JobAcctGatherType=jobacct_gather/none",
        "AccountingStorageType=accounting_storage/none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core",
        "SchedulerType=sched/backfill",
        "SchedulerParameters=bf_interval=1,sched_interval=2,batch_sched_delay=0,sched_min_interval=0",
        "PreemptType=preempt/partition_prio",
        "PreemptMode=REQUEUE",
        "MpiDefault=none",
        "KillWait=5",
        "MinJobAge=60",
        "InactiveLimit=0",
        "SlurmctldTimeout=30",
        "SlurmdTimeout=10",
        "ReturnToService=2",
        "MailProg=/bin/true",
        "MaxArraySize=101",
        "SlurmctldDebug=info",
        "SlurmdDebug=info",
    ]


def _nodes(ports: Ports) -> list[str]:
    host = socket.gethostname()
    lines = [
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=4000 State=UNKNOWN"
        for name, port in zip(NODES, ports.nodes, strict=True)
    ]
    first, last = NODES[0], NODES[-1].removeprefix("n")
    every = f"Nodes={first[0]}[{first[1:]}-{last}] State=UP MaxTime=INFINITE"
    return [
        *lines,
        f"PartitionName=low {every} Default=YES PriorityTier=1 PreemptMode=REQUEUE",
        f"PartitionName=high {every} PriorityTier=10 PreemptMode=OFF",
    ]


def environment_of(folder: Path) -> dict[str, str]:
    """What SLURM's programs need to find it."""
    return {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
