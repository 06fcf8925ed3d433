"""Up, down and status of one private SLURM.

`up` is level-triggered: it starts what doesn't run, so it also brings back a daemon that a test killed. `down` cancels
every job, stops the daemons by the ids written down, and looks for what jobs left running by our own slurm.conf in
their environment: nothing of it remains.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fcntl import LOCK_EX, flock
from pathlib import Path

from cluster_parts.processes import Process, find_process, is_running, stop_process

from slurm_parts.errors import SlurmError
from slurm_parts.packages import check, inside
from slurm_parts.settings import HOME, NODES, Ports, environment_of, free_ports, write_configuration

_READY_WITHIN_S = 60.0
_EMPTY_WITHIN_S = 20.0
_REST_USER = "nobody"  # slurmrestd refuses to run as root or as SlurmUser


@dataclass(frozen=True, slots=True)
class State:
    """As last written down. `owner` is a process that it needn't outlive: once that is gone, any `up` takes it down."""

    ports: Ports
    owner: Process | None = None
    root: str | None = None  # the root folder of another release, if it isn't this machine's own
    processes: Mapping[str, Process] = field(default_factory=dict)


def load(folder: Path) -> State | None:
    """The SLURM in `folder`; None if there is none."""
    try:
        raw = json.loads((folder / "state.json").read_text())
    except FileNotFoundError:
        return None
    ports = Ports(raw["ports"]["slurmctld"], raw["ports"]["slurmrestd"], tuple(raw["ports"]["nodes"]))
    processes = {name: Process(**each) for name, each in raw["processes"].items()}
    return State(ports, Process(**raw["owner"]) if raw["owner"] else None, raw["root"], processes)


def _save(folder: Path, state: State) -> None:
    aside = folder / "state.json.new"
    aside.write_text(json.dumps(asdict(state), indent=2))
    aside.rename(folder / "state.json")


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    HOME.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (HOME / ".lock").open("w") as file:
        flock(file, LOCK_EX)
        yield


def up(folder: Path, owner: Process | None, changes: Sequence[str], root: Path | None) -> None:
    """Bring it up, or what is missing of it. On failure nothing that this call started is left."""
    check(root)
    with _locked():
        _take_down_abandoned()
        before = load(folder)
        state = before or _lay_out(folder, owner, changes, root)
        site = _Site(folder, state)
        try:
            site.bring_up()
        except BaseException:
            if before is None:
                site.take_down()
            raise


def down(folder: Path) -> bool:
    """End all of it. False if there was none."""
    with _locked():
        return _down(folder)


def _down(folder: Path) -> bool:
    state = load(folder)
    if state is not None:
        _Site(folder, state).take_down()
    return state is not None


def _take_down_abandoned() -> None:
    for path in HOME.glob("*/state.json"):
        state = load(path.parent)
        if state and state.owner and not is_running(state.owner):
            _down(path.parent)


def _lay_out(folder: Path, owner: Process | None, changes: Sequence[str], root: Path | None) -> State:
    for name in ("", "munge", "state", "spool", "logs"):
        (folder / name).mkdir(mode=0o755, parents=True, exist_ok=True)
    for key in ("munge.key", "jwt.key"):
        descriptor = os.open(folder / key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(descriptor, secrets.token_bytes(32) if key == "jwt.key" else secrets.token_bytes(1024))
        os.close(descriptor)
    state = State(free_ports(), owner, str(root) if root else None)
    write_configuration(folder, state.ports, changes)
    if root is not None:  # 24.11 asks for cgroups unless told otherwise, 22.05 doesn't know how to be told
        (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
    _save(folder, state)
    return state


class _Site:
    """One SLURM, being brought up or taken down."""

    def __init__(self, folder: Path, state: State) -> None:
        self._folder = folder
        self._state = state
        self._root = Path(state.root) if state.root else None

    def bring_up(self) -> None:
        munge, rest = self._folder / "munge", f"127.0.0.1:{self._state.ports.slurmrestd}"
        self._ensure(
            "munged",
            ["--foreground", "--force", f"--key-file={self._folder}/munge.key", *_munge_places(munge)],
        )
        self._wait("munge answers", (munge / "socket").exists)
        self._ensure("slurmctld", ["-D"])
        self._wait("slurmctld answers", lambda: self._tells("scontrol", "ping").startswith("Slurmctld(primary)"))
        for node in NODES:
            self._ensure("slurmd", ["-D", "-N", node], name=node)
        api = "openapi/slurmctld" if self._root else "openapi/v0.0.38"
        self._ensure("slurmrestd", ["-a", "rest_auth/jwt", "-s", api, *self._as_user(), rest])
        self._tells("scontrol", "update", f"NodeName={','.join(NODES)}", "State=RESUME")  # what a test has drained
        self._wait("all nodes are idle", self._are_nodes_idle)
        self._wait("slurmrestd answers", lambda: _listens(self._state.ports.slurmrestd))

    def _are_nodes_idle(self) -> bool:
        states = self._tells("sinfo", "-h", "-N", "-p", "low", "-o", "%T").split()
        return len(states) == len(NODES) and all(state in {"idle", "mixed", "allocated"} for state in states)

    @staticmethod
    def _as_user() -> list[str]:
        user = pwd.getpwnam(_REST_USER)
        return ["-u", str(user.pw_uid), "-g", str(user.pw_gid)]

    def _ensure(self, program: str, arguments: list[str], *, name: str = "") -> None:
        name = name or program
        known = self._state.processes.get(name)
        if known and is_running(known):
            return
        environment = environment_of(self._folder)
        if program == "slurmrestd":
            environment["SLURM_JWT"] = "daemon"
        with (self._folder / "logs" / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                inside(self._root, [program, *arguments]),
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        process = find_process(child.pid)
        child.returncode = 0  # it is to outlive us: tell Popen that nobody has to wait for it
        if process is None:
            raise SlurmError(f"{name} ended at once.\n{self._last_words(name)}")
        self._state = replace(self._state, processes={**self._state.processes, name: process})
        _save(self._folder, self._state)

    def take_down(self) -> None:
        if "slurmctld" in self._state.processes and is_running(self._state.processes["slurmctld"]):
            self._cancel_all()
        for process in reversed([*self._state.processes.values()]):
            stop_process(process)
        for process in _processes_of(self._folder):
            stop_process(process)
        shutil.rmtree(self._folder)

    def _cancel_all(self) -> None:
        self._tells("scancel", "--state=PENDING,RUNNING,SUSPENDED", "--user=root")
        deadline = time.monotonic() + _EMPTY_WITHIN_S
        while self._tells("squeue", "-h") and time.monotonic() < deadline:
            time.sleep(0.2)

    def _tells(self, program: str, *arguments: str) -> str:
        """What a program says; nothing where it fails."""
        result = subprocess.run(
            inside(self._root, [program, *arguments]),
            env=environment_of(self._folder),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return "" if result.returncode else result.stdout.strip()

    def _wait(self, what: str, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        while not is_so():
            for name, process in self._state.processes.items():
                if not is_running(process):
                    raise SlurmError(f"{name} ended while waiting until {what}.\n{self._last_words(name)}")
            if time.monotonic() > deadline:
                last = [*self._state.processes][-1]
                raise SlurmError(f"Not within {_READY_WITHIN_S:.0f} s: {what}.\n{self._last_words(last)}")
            time.sleep(0.2)

    def _last_words(self, name: str) -> str:
        log = self._folder / "logs" / f"{name}.log"
        return "\n".join([f"The end of {log}:", *log.read_text(errors="replace").splitlines()[-15:]])


def _munge_places(folder: Path) -> list[str]:
    names = {"socket": "socket", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}
    return [f"--{option}={folder / name}" for option, name in names.items()]


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _processes_of(folder: Path) -> Iterator[Process]:
    """What jobs left running: steps and whatever they started, which have our slurm.conf in their environment."""
    mark = f"SLURM_CONF={folder}/slurm.conf".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            pid = int(path.parent.name)
            process = find_process(pid)
            if process and pid != os.getpid() and mark in path.read_bytes().split(b"\0"):
                yield process
