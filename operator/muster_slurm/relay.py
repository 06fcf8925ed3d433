"""The way out for nodes that can't dial the coordinator (`slurm.relay`): a process beside the bridge, kept alive by it.

Ssh           an ssh connection like those of `command` lets a login node through to the coordinator (ssh -R), and a
              program of a page (forwarder.py) on the login node opens a port to it that nodes can reach
SharedFolder  the near end of muster_wire.relay (folder.py); each worker brings a far one

Either way TLS goes from the worker to the coordinator, and what carries it sees nothing of what is said. What workers
are told of the way stays the same for as long as the job lives, since batch jobs wait in the queue with it: where a
name leads to one login node now and to another one later, it has to be the first again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import IO, Protocol

import msgspec

from muster_slurm.commands import ssh_shell
from muster_slurm.errors import SettingsError
from muster_slurm.request import Keys, slurm_of
from muster_slurm.script import relay_folder
from muster_slurm.transport import Secrets
from muster_spec.pool_types import Ssh
from muster_spec.types import ResolvedJob, ResolvedPool
from muster_telemetry.address import AddressError, parse_address
from muster_wire.durable import write_whole
from muster_wire.trust.bundle import Bundle

AGAIN_S = (1.0, 5.0, 15.0)
HEARTBEAT_S = 5.0
STOP_S = 5.0
PORTS = range(20_000, 30_000)  # below those that outgoing connections usually take
CANDIDATES = 4
SSH_PORT = 22  # known_hosts has other ports beside the name
_READY = b"listening "
_PYTHON = 'python=$(command -v python3) || python=/usr/libexec/platform-python; exec "$python" -u -c'

Child = subprocess.Popen[bytes]


class Carrier(Protocol):
    """One kind of relay."""

    def start(self, target: str) -> Child:
        """The process that carries to this HOST:PORT. It says a line when it does, and ends with its standard input."""

    @property
    def name(self) -> str:
        """What it is called."""

    def note(self, place: str) -> str:
        """What that line names: where workers find it. What is wrong with it, if they look elsewhere."""

    def told(self, bundle: Bundle) -> Bundle:
        """The join bundle as workers get it."""


def open_carrier(job: ResolvedJob, pool: ResolvedPool, secrets_: Secrets, ledger: Path) -> Carrier | None:
    """What the pool asks for; None where its nodes dial by themselves. Raises SettingsError."""
    slurm = slurm_of(pool)
    folder = relay_folder(job, pool)
    if folder is not None:
        return FolderCarrier(Path(folder))
    if slurm.relay is None or slurm.command is None or slurm.command.ssh is None:
        return None
    ssh = slurm.command.ssh
    key, known = secrets_.path(ssh.key_secret), secrets_.path(ssh.known_hosts_secret)
    return SshCarrier(ssh, key, known, Keys(job.uid, pool.name), ledger.with_name(f"{ledger.name}.relay"))


def _named(bundle: Bundle, address: str) -> Bundle:
    """To dial another address, and still to meet the coordinator there."""
    host = bundle.coordinator.rpartition(":")[0].strip("[]")
    return msgspec.structs.replace(bundle, coordinator=address, server_name=bundle.server_name or host)


class FolderCarrier:
    """Through a folder that this machine and the nodes share."""

    name = "the relay"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, target: str) -> Child:
        return _child([sys.executable, "-m", "muster_slurm.folder", str(self._folder), target])

    def note(self, _: str) -> str:
        """It is where it was to be."""
        return ""

    def told(self, bundle: Bundle) -> Bundle:
        """Workers dial a socket of their own, so they have to be told whom they should meet behind it."""
        return _named(bundle, bundle.coordinator)


class SshCarrier:
    """Through a login node. `memory` is a file that remembers the address, which is worth nothing without the job."""

    def __init__(self, ssh: Ssh, key: Path, known_hosts: Path, keys: Keys, memory: Path) -> None:
        """Raises SettingsError."""
        self._ssh, self._key, self._known_hosts = ssh, key, known_hosts
        self._keys = keys
        self._memory = memory
        self._address = _remembered(memory)
        self._is_direct = False  # to the host that workers know, whatever the name leads to
        self._goes_direct = False  # the next time

    @property
    def name(self) -> str:
        return f"the relay to {self._host}, where workers dial," if self._is_direct else "the relay"

    @property
    def _host(self) -> str:
        return parse_address(self._address)[0]

    def start(self, target: str) -> Child:
        path = f"/tmp/muster-relay-{secrets.token_hex(8)}"  # noqa: S108 -- at the login node, and opened by sshd
        child = _child(self.command(path, target))
        with contextlib.suppress(OSError):  # one that ended at once says why on its standard error
            os.write(_pipe(child.stdin).fileno(), self._program(path).encode())
        return child

    def command(self, path: str, target: str) -> Sequence[str]:
        """What is started. A direct way that leads nowhere is followed by another try of the name."""
        self._is_direct, self._goes_direct = self._goes_direct, False
        settings = {"ExitOnForwardFailure": "yes", "StreamLocalBindMask": "0177"}
        if self._is_direct:
            known = self._ssh.host if self._ssh.port == SSH_PORT else f"[{self._ssh.host}]:{self._ssh.port}"
            settings |= {"HostName": self._host, "HostKeyAlias": known}
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        return [*ssh_shell(self._ssh, self._key, self._known_hosts, [*options, "-R", f"{path}:{target}"])]

    def _program(self, path: str) -> str:
        """For the login node's shell: it becomes a Python with the forwarder, which has the rest of standard input."""
        text = resources.files("muster_slurm").joinpath("forwarder.py").read_text(encoding="utf-8")
        words = [text, path, *map(str, self.ports)]
        return f"{_PYTHON} {' '.join(map(shlex.quote, words))}\n"

    @property
    def ports(self) -> Sequence[int]:
        """The one that workers know; before there is one, or the memory is lost, some that follow from the job."""
        if self._address:
            return (parse_address(self._address)[1],)
        digest = hashlib.sha256(f"{self._keys.uid}/{self._keys.pool}".encode()).digest()
        first = int.from_bytes(digest[:4], "big")
        return [PORTS[(first + number) % len(PORTS)] for number in range(CANDIDATES)]

    def note(self, place: str) -> str:
        if not self._address:
            self._address = place
            write_whole(self._memory, place.encode())
        is_known = place == self._address
        self._goes_direct = is_known == self._is_direct
        way = self._host if self._is_direct else self._ssh.host
        return "" if is_known else f"{way} led to {place} this time, but workers dial {self._address}"

    def told(self, bundle: Bundle) -> Bundle:
        return _named(bundle, self._address)


def _remembered(memory: Path) -> str:
    try:
        address = memory.read_text().strip()
        parse_address(address)
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError, AddressError) as error:
        raise SettingsError(f"{memory}: can't be read ({error}); it says where waiting jobs will dial") from error
    return address


class Relay:
    """Keeps a carrier's process alive. Everything is done when it is looked at, by the bridge's one thread."""

    def __init__(self, carrier: Carrier, target: str, say: Callable[[str], None]) -> None:
        self._carrier = carrier
        self._target = target
        self._say = say
        self._child: Child | None = None
        self._unread = self._words = b""
        self._failures = 0
        self._due_at = self._beat_at = 0.0
        self.is_ready = False  # it has carried, and may be carrying
        self.is_carrying = False

    def told(self, bundle: Bundle) -> Bundle:
        """The join bundle as workers get it."""
        return self._carrier.told(bundle)

    def look(self) -> None:
        """Start it, or start it again; hear what it says; let it know that the bridge lives."""
        now = time.monotonic()
        if self._child is None:
            if now >= self._due_at:
                self._child = self._carrier.start(self._target)
                for pipe in (self._child.stdout, self._child.stderr):
                    os.set_blocking(_pipe(pipe).fileno(), False)
                self._unread = self._words = b""
            return
        wrong = self._hear(self._child)
        if wrong:
            self.stop()
            self._put_off(now, wrong)
        elif self._child.poll() is not None:
            self._ended(self._child, now)
        elif now >= self._beat_at:
            self._beat_at = now + HEARTBEAT_S
            with contextlib.suppress(OSError):
                os.write(_pipe(self._child.stdin).fileno(), b"\n")

    def _hear(self, child: Child) -> str:
        """Why it is of no use, if it says so itself."""
        self._words = (self._words + _read(child.stderr))[-2000:]
        *lines, self._unread = (self._unread + _read(child.stdout)).split(b"\n")
        for line in lines:
            if line.startswith(_READY):
                wrong = self._carrier.note(line.removeprefix(_READY).decode("utf-8", "replace"))
                if wrong:
                    return wrong
                self._say("the relay carries again" if self.is_ready else "the relay carries")
                self.is_ready, self.is_carrying, self._failures = True, True, 0
        return ""

    def _ended(self, child: Child, now: float) -> None:
        self._words = (self._words + _read(child.stderr))[-2000:]
        words = " ".join(self._words.decode("utf-8", "replace").split())[-300:] or "it said nothing"
        self._child, self.is_carrying = None, False
        _close(child)
        self._put_off(now, words)

    def _put_off(self, now: float, why: str) -> None:
        self._due_at = now + AGAIN_S[min(self._failures, len(AGAIN_S) - 1)]
        self._failures += 1
        self._say(f"{self._carrier.name} has ended, and is started again: {why}")

    def stop(self) -> None:
        """Nothing is left of it, here or there."""
        child, self._child = self._child, None
        if child is None:
            return
        with contextlib.suppress(OSError):
            _pipe(child.stdin).close()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        _close(child)


def _child(command: Sequence[str]) -> Child:
    pipes = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipes, stdout=pipes, stderr=pipes)  # noqa: S603 - ssh, or our own module


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("a child is always started with pipes")
    return pipe


def _read(pipe: IO[bytes] | None) -> bytes:
    try:
        return os.read(_pipe(pipe).fileno(), 1 << 16)
    except BlockingIOError:
        return b""


def _close(child: Child) -> None:
    for pipe in (child.stdin, child.stdout, child.stderr):
        with contextlib.suppress(OSError):
            _pipe(pipe).close()
