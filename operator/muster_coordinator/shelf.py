"""The chain of versions on the disk, so that a restarted coordinator gives out the same references.

```
references/chain.json       which versions there are, in order; replaced whole
references/<checksum>.bin   a payload: a keyframe's snapshot, or the change from the version before
```
A payload is durable before the chain names it, and the chain before a client hears of it. What is damaged is not
believed: the chain is cut before it, and the next version is made anew from there, or is a keyframe.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from pathlib import Path

from muster_coordinator import durable
from muster_coordinator.durable import BrokenSeal, Disk
from muster_coordinator.records import Record
from muster_wire.checksum import checksum128


class StoredLink(Record, frozen=True):
    """One version: how its payload is encoded and what it leads to."""

    number: int  # the round that made the model
    model: str  # digest of the model as it is stored
    reference: str  # digest of what clients decode
    base: str  # the reference that it changes; empty: a keyframe
    pipeline: tuple[int, int, int]  # codec, flags and block
    checksum: str  # of the payload


class StoredChain(Record, frozen=True):
    """All versions that are given out, the oldest first."""

    links: tuple[StoredLink, ...] = ()


class Shelf:
    """A folder of payloads and the record that names them. The driver's thread writes it."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._folder = folder
        self._disk = disk

    def put(self, payload: memoryview) -> memoryview:
        """Make a payload durable; the same bytes, in their file."""
        path = self._path(checksum128(payload))
        self._disk.replace(path, lambda file: file.write(payload))
        return _mapped(path)

    def write(self, links: Iterable[StoredLink]) -> None:
        """These are the versions from now on; payloads of others are gone."""
        chain = StoredChain(links=tuple(links))
        self._disk.replace(self._record, lambda file: file.write(durable.seal(chain)))
        kept = {self._path(link.checksum) for link in chain.links}
        for path in set(self._folder.glob("*.bin")) - kept:
            self._disk.remove(path)

    def read(self) -> tuple[list[tuple[StoredLink, memoryview]], list[str]]:
        """The versions with their payloads, up to the first one that isn't whole; and what was wrong, for people."""
        try:
            chain = durable.unseal(self._record.read_bytes(), StoredChain)
        except FileNotFoundError:
            return [], []
        except (BrokenSeal, OSError) as error:
            return [], [f"{self._record}: {error}: clients get a new keyframe"]
        whole: list[tuple[StoredLink, memoryview]] = []
        for link in chain.links:
            payload = _whole(self._path(link.checksum), link.checksum)
            if payload is None:
                damaged = f"{self._path(link.checksum)}: version {link.number} is damaged or gone"
                return whole, [f"{damaged}: it is made again, or clients get a new keyframe"]
            whole.append((link, payload))
        return whole, []

    @property
    def _record(self) -> Path:
        return self._folder / "chain.json"

    def _path(self, checksum: str) -> Path:
        return self._folder / f"{checksum}.bin"


def _whole(path: Path, checksum: str) -> memoryview | None:
    try:
        payload = _mapped(path)
    except (OSError, ValueError):  # no file, or an empty one
        return None
    return payload if checksum128(payload) == checksum else None


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
