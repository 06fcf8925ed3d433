"""A control group for each node: what the node's pods are in, and how everything that it ever started is found again.

Both layouts of the kernel are known: one folder a controller (version 1), one for all (version 2), or both at once.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluster_parts.errors import ClusterError

_PATIENCE_S = 20.0
_INHERITED = (
    "cpuset.cpus",
    "cpuset.mems",
)  # of version 1: empty in a new group, and nothing runs in it until they are set


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """One group, in every hierarchy that the kernel has."""

    name: str
    hierarchies: tuple[Path, ...]

    @property
    def folders(self) -> list[Path]:
        return [hierarchy / self.name for hierarchy in self.hierarchies]

    def make(self) -> None:
        """Make it, with a place for the programs that aren't pods."""
        for folder in self.folders:
            for place in (folder, folder / "programs"):
                place.mkdir(exist_ok=True)
                _inherit(place)

    def add(self, pid: int) -> None:
        """Put a process in. What it starts from now on is in, too."""
        for folder in self.folders:
            (folder / "programs" / "cgroup.procs").write_text(str(pid))

    def end_processes(self) -> None:
        """Kill everything that is in it, until nothing is."""
        deadline = time.monotonic() + _PATIENCE_S
        while pids := set(self._processes()):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise ClusterError(f"Processes {sorted(pids)} of {self.name} can't be killed: look at them with ps.")
            time.sleep(0.05)

    def remove(self) -> None:
        """Remove it, with all groups in it. The kernel may need a moment to see that they are empty."""
        deadline = time.monotonic() + _PATIENCE_S
        while left := [place for folder in self.folders for place in _below(folder) if not _removed(place)]:
            if time.monotonic() > deadline:
                raise ClusterError(f"The control groups {', '.join(map(str, left))} can't be removed.")
            time.sleep(0.1)

    def _processes(self) -> Iterator[int]:
        for folder in self.folders:
            for place in _below(folder):
                with suppress(FileNotFoundError, OSError):
                    yield from map(int, (place / "cgroup.procs").read_text().split())


def control_group(name: str, mounts: str = "") -> ControlGroup:
    """The group of that name. `mounts` is what /proc/mounts says."""
    lines = [line.split() for line in (mounts or Path("/proc/mounts").read_text()).splitlines()]
    hierarchies = [Path(place) for _, place, kind, *_ in lines if kind in {"cgroup", "cgroup2"}]
    return ControlGroup(name, tuple(dict.fromkeys(hierarchies)))


def _inherit(folder: Path) -> None:
    for name in _INHERITED:
        file = folder / name
        if file.exists() and not file.read_text().strip() and (folder.parent / name).exists():
            file.write_text((folder.parent / name).read_text())
    controllers = folder.parent / "cgroup.controllers"
    wanted = " ".join(f"+{name}" for name in controllers.read_text().split()) if controllers.exists() else ""
    if wanted:  # version 2: a group's children have the controllers that it hands on
        (folder.parent / "cgroup.subtree_control").write_text(wanted)


def _below(folder: Path) -> list[Path]:
    """The group and all in it, the innermost first."""
    return [Path(place) for place, _, _ in os.walk(folder, topdown=False)]


def _removed(place: Path) -> bool:
    try:
        place.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
