"""How ranks find one another beside the fabric: rank 0 listens, the others learn where over the fabric, and dial it.

The first line of each is ``TOKEN RANK PROCESS HOST``. The token has come over the fabric too, so nobody else has it:
who says anything else is hung up on.
"""

from __future__ import annotations

import hmac
import os
import secrets
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from muster.errors import RankLostError
from muster.site.fabric import Fabric, spread

JOIN_WITHIN_S: Final = 60.0
LONGEST_LINE: Final = 512
_DIAL_S: Final = 5.0


class Address(msgspec.Struct, frozen=True):
    """Where rank 0 listens: on a host, by each of its names."""

    host: str
    names: tuple[str, ...]
    port: int
    token: str


@dataclass(slots=True, eq=False)
class Peer:
    """The other end of one connection; `name` is for people."""

    rank: int
    name: str
    line: socket.socket
    unread: bytes = b""


def meet(fabric: Fabric, within_s: float = JOIN_WITHIN_S) -> list[Peer]:
    """Connections to all other ranks, as rank 0; to rank 0, as any other.

    Raises:
        RankLostError: some can't reach rank 0.
    """
    if fabric.rank:
        return [_dial(msgspec.json.decode(spread(fabric), type=Address), fabric.rank, within_s)]
    with socket.create_server(("", 0), backlog=max(fabric.size, 16)) as server:
        address = Address(socket.gethostname(), _names(), server.getsockname()[1], secrets.token_hex(16))
        spread(fabric, msgspec.json.encode(address))
        return _admit(server, address, fabric.size, time.monotonic() + within_s)


def _names() -> tuple[str, ...]:
    host = socket.gethostname()
    found = [host, socket.getfqdn()]
    with suppress(OSError):
        found += socket.gethostbyname_ex(host)[2]
    return tuple(dict.fromkeys(found))


def _dial(address: Address, rank: int, within_s: float) -> Peer:
    host = socket.gethostname()
    names = ("127.0.0.1",) if host == address.host else address.names
    until, reason = time.monotonic() + within_s, "no time"
    while time.monotonic() < until:
        for name in names:
            try:
                line = socket.create_connection((name, address.port), timeout=_DIAL_S)
            except OSError as error:
                reason = str(error)
                continue
            line.sendall(f"{address.token} {rank} {os.getpid()} {host}\n".encode())
            return Peer(0, f"rank 0 (on {address.host})", line)
        time.sleep(0.5)
    places = ", ".join(f"{name}:{address.port}" for name in names)
    raise RankLostError(
        f"rank {rank} on {host} can't reach rank 0 at {places} ({reason}): ranks have to reach it by TCP"
    )


def _admit(server: socket.socket, address: Address, size: int, until: float) -> list[Peer]:
    peers: dict[int, Peer] = {}
    while len(peers) < size - 1:
        server.settimeout(max(until - time.monotonic(), 0.01))
        try:
            line, _ = server.accept()
        except TimeoutError:
            missing = ", ".join(str(rank) for rank in range(1, size) if rank not in peers)
            raise RankLostError(f"ranks {missing} didn't reach rank 0, {address.host}:{address.port}, by TCP") from None
        peer = _recognise(line, address, size)
        if peer is None:
            line.close()
        else:
            peers[peer.rank] = peer
    return [peers[rank] for rank in sorted(peers)]


def _recognise(line: socket.socket, address: Address, size: int) -> Peer | None:
    """Which rank this is; None if it is none of ours."""
    line.settimeout(_DIAL_S)
    said = b""
    with suppress(OSError):
        while b"\n" not in said and len(said) < LONGEST_LINE:
            more = line.recv(LONGEST_LINE)
            if not more:
                return None
            said += more
    first, _, rest = said.partition(b"\n")
    words = first.decode(errors="replace").split(" ")
    if len(words) != 4 or not hmac.compare_digest(words[0].encode(), address.token.encode()):
        return None
    rank = int(words[1]) if words[1].isdecimal() else 0
    return Peer(rank, f"rank {rank} (process {words[2]} on {words[3]})", line, rest) if 0 < rank < size else None
