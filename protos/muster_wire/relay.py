"""A relay through a shared folder: connections of nodes that can't dial out, carried on by whoever can.

    FOLDER/near              the end that can: its name, and a count that rises while it lives
    FOLDER/far/ID/alive      the same of an end at the nodes
    FOLDER/far/ID/NEAR-N/    its connection N, for the near end of that name: two streams (spool.py), up and down

A far end is part of a worker: it listens on a socket that only its user can open, and the worker dials that. The near
end is beside the bridge, and dials the coordinator. Neither can look into what it carries, which is TLS between those
two. Either may die and come back: the other end sees its count stand still, or another name, and closes what it
carried, so that gRPC dials anew.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from muster_wire.spool import SEGMENT_BYTES, Incoming, Outgoing, Patience, StreamBrokenError, give_up

BEAT_S = 1.0
SILENT_S = 10.0  # on NFS a change may show some seconds late
LOOK_S = 0.2
DIAL_S = 10.0
LINGER_S = 5.0  # for the other end to read what was said last
_PRIVATE = 0o700


class Pulse:
    """A file that says once a second that its writer lives, and who that is."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.name = secrets.token_hex(8)
        self._count = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="relay-pulse", daemon=True)

    def __enter__(self) -> Self:
        """Raises OSError where nothing can be written."""
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._file.unlink()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            with contextlib.suppress(OSError):  # a folder that is full, or away: the other end draws its conclusions
                self._write()

    def _write(self) -> None:
        self._count += 1
        aside = self._file.with_name(f".{self._file.name}.{self.name}")
        aside.write_text(f"{self.name} {self._count}")
        aside.rename(self._file)


class Watched:
    """Another's pulse. Only this machine's clock is looked at, so those of the two may differ."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = ""
        self._changed_at = self._looked_at = clock() - 2 * SILENT_S

    @property
    def name(self) -> str:
        """Who it is; empty if nobody is alive."""
        with self._lock:
            now = self._clock()
            if now >= self._looked_at + BEAT_S / 2:
                self._looked_at = now
                self._look(now)
            return self._seen.partition(" ")[0] if now < self._changed_at + SILENT_S else ""

    def _look(self, now: float) -> None:
        try:
            seen = self._file.read_text()
        except FileNotFoundError:
            seen = ""
        except OSError:
            return
        if seen != self._seen:
            self._seen, self._changed_at = seen, now


def carry(connection: socket.socket, folder: Path, ours: str, theirs: str, is_alive: Callable[[], bool]) -> None:
    """Between a socket and the two streams in a folder, until both have ended or one has broken."""
    out = Outgoing(folder, ours, Patience(folder, theirs, is_alive))
    into = Incoming(folder, theirs, Patience(folder, theirs, is_alive))
    sender = threading.Thread(target=_guarded, args=(_send, connection, out, folder, ours), daemon=True)
    sender.start()
    with connection:
        _guarded(_receive, connection, into, folder, ours)
        sender.join()


def _guarded(pump: Callable[..., None], connection: socket.socket, stream: object, folder: Path, ours: str) -> None:
    try:
        pump(connection, stream)
    except (OSError, StreamBrokenError):
        give_up(folder, ours)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def _send(connection: socket.socket, out: Outgoing) -> None:
    data = connection.recv(SEGMENT_BYTES)
    while data:
        out.write(data)
        data = connection.recv(SEGMENT_BYTES)
    out.write(b"")


def _receive(connection: socket.socket, into: Incoming) -> None:
    while data := into.read():
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


# --- at the nodes -----------------------------------------------------------------------------------------------------


@contextmanager
def far_end(folder: Path) -> Iterator[str]:
    """The address to dial, as gRPC writes it, for as long as this lasts. The near end need not be there yet.

    Raises OSError where the folder's own folder isn't there, or can't be written to.
    """
    own = folder / "far" / secrets.token_hex(8)
    for each in (folder, own.parent, own):
        each.mkdir(mode=_PRIVATE, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="muster-"))
    try:
        with Pulse(own / "alive"), socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(place / "relay"))
            listener.listen()
            threading.Thread(target=_accept, args=(listener, folder, own), name="relay", daemon=True).start()
            yield f"unix:{place / 'relay'}"
    finally:
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(own, ignore_errors=True)


def _accept(listener: socket.socket, folder: Path, own: Path) -> None:
    near, count = Watched(folder / "near"), 0
    with contextlib.suppress(OSError):  # it is closed
        while True:
            connection, _ = listener.accept()
            count += 1
            body = threading.Thread(target=_carry_out, args=(connection, near, own, count), daemon=True)
            body.start()


def _carry_out(connection: socket.socket, near: Watched, own: Path, number: int) -> None:
    name = near.name
    if not name:  # whoever dialled is to try again
        connection.close()
        return
    folder = own / f"{name}-{number}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=_PRIVATE)
        carry(connection, folder, "up", "down", lambda: near.name == name)
        _linger(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _linger(folder: Path) -> None:
    until = time.monotonic() + LINGER_S
    while time.monotonic() < until and any(folder.glob("up.[0-9]*")):
        time.sleep(LOOK_S)


# --- where one can dial -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _End:
    """A far end, and which of its connections are taken up."""

    pulse: Watched
    taken: set[str]


class NearEnd:
    """Carries what far ends put into the folder on to one address."""

    def __init__(self, folder: Path, address: tuple[str, int]) -> None:
        """Makes the folder. Raises OSError."""
        self._far = folder / "far"
        for each in (folder, self._far):
            each.mkdir(mode=_PRIVATE, exist_ok=True)
        self._address = address
        self._pulse = Pulse(folder / "near")
        self._ends: dict[str, _End] = {}

    def __enter__(self) -> Self:
        """From now on far ends know of it. Raises OSError where nothing can be written."""
        self._pulse.__enter__()
        return self

    def __exit__(self, *given: object) -> None:
        self._pulse.__exit__(*given)

    def run(self, over: threading.Event) -> None:
        """Until it is over."""
        while not over.wait(LOOK_S):
            self._look()

    def _look(self) -> None:
        found = {path.name: path for path in self._far.iterdir() if path.is_dir()}
        for gone in self._ends.keys() - found.keys():
            del self._ends[gone]
        for name, path in found.items():
            end = self._ends.setdefault(name, _End(Watched(path / "alive"), set()))
            if end.pulse.name:
                self._take_up(end, path)
            elif end.taken or _is_old(path):
                shutil.rmtree(path, ignore_errors=True)  # it died without a word

    def _take_up(self, end: _End, path: Path) -> None:
        with contextlib.suppress(OSError):
            names = {each.name for each in path.glob(f"{self._pulse.name}-*")}
            for name in sorted(names - end.taken):
                threading.Thread(target=self._carry_on, args=(path / name, end.pulse), daemon=True).start()
            end.taken |= names

    def _carry_on(self, folder: Path, far: Watched) -> None:
        try:
            connection = socket.create_connection(self._address, DIAL_S)
        except OSError:
            give_up(folder, "down")
            return
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        carry(connection, folder, "down", "up", lambda: bool(far.name))


def _is_old(path: Path) -> bool:
    """Whether it has been there for as long as an end that lives would have needed to say so."""
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime > 2 * SILENT_S
    return False
