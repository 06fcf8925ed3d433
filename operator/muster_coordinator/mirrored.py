"""The disk of a coordinator whose storage is an object store: every durable write goes there before it counts.

A directory of this machine mirrors what the coordinator reads, since models are mapped and records looked up by name.
The store is the truth: the copy is emptied when a coordinator starts, records are brought here then, and models when
they are first asked for. A record that is created exclusively is so in the store; of two coordinators one loses there,
on whatever machines they are.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from muster_coordinator.bucket import Bucket
from muster_coordinator.durable import Disk, Write, creates_once, taken_over
from muster_coordinator.errors import DiskError, StorageError

log = logging.getLogger("muster.coordinator")

_ON_DEMAND = ("models/", "server/")  # large, and few of them needed
_WHOLE = ("job.json", "carried.json")
_ALL_OF = ("epochs/", "rounds/", "evaluations/", "references/")


@dataclass(frozen=True, slots=True)
class MirroredDisk(Disk):
    """Writes into the bucket, and then here."""

    root: Path = field(kw_only=True)
    bucket: Bucket = field(kw_only=True)

    def check(self, folder: Path) -> None:
        if not creates_once(self, folder):
            raise StorageError(
                f"storage {self.bucket.url}: creates an object twice under one name (no If-None-Match here), so "
                "two coordinators could overwrite each other's rounds; take a store with conditional writes"
            )

    def replace(self, path: Path, write: Write) -> None:
        temporary = self._write_aside(path, write)
        try:
            self.bucket.put(self._key(path), temporary)
            self.observer.reached(f"stored {path.name}")
            temporary.rename(path)
        except (DiskError, FileNotFoundError) as error:
            if temporary.exists():
                raise
            raise taken_over(temporary) from error
        finally:
            temporary.unlink(missing_ok=True)
        self.observer.reached(f"wrote {path.name}")

    def create(self, path: Path, write: Write) -> bool:
        temporary = self._write_aside(path, write)
        try:
            created = self.bucket.create(self._key(path), temporary.read_bytes())
            self.observer.reached(f"stored {path.name}")
            if created:
                temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
        self.observer.reached(f"wrote {path.name}")
        return created

    def remove(self, path: Path) -> None:
        """What can't be removed now is only room that is taken, and nothing to fail for."""
        path.unlink(missing_ok=True)
        try:
            self.bucket.remove(self._key(path))
        except DiskError as error:
            log.warning("%s", error)

    def put_aside(self, path: Path, aside: Path) -> None:
        self.bucket.copy(self._key(path), self._key(aside))
        self.bucket.remove(self._key(path))
        path.replace(aside)

    def name_too(self, path: Path, other: Path) -> None:
        self.bucket.copy(self._key(path), self._key(other))
        Disk.name_too(self, path, other)

    def bring(self, path: Path) -> Path:
        if not path.exists():
            temporary = path.with_name(f".{path.name}.{self.token}.brought")
            if self.bucket.fetch(self._key(path), temporary):
                temporary.rename(path)
        return path

    def bring_records(self, plans_read: int) -> None:
        """Everything but models, and of plans those of the newest rounds."""
        keys = [key for key in self.bucket.names() if not key.startswith(_ON_DEMAND) and not key.endswith(".corrupt")]
        newest = max((_number(key) for key in keys if key.startswith("rounds/")), default=0)
        wanted = [key for key in keys if key in _WHOLE or key.startswith(_ALL_OF)]
        wanted += [key for key in keys if key.startswith("plans/") and _number(key) >= newest - plans_read]
        for key, content in self.bucket.read(wanted).items():
            (self.root / key).write_bytes(content)

    def _key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def empty_copy(root: Path, folders: Collection[str]) -> None:
    """Forget what an earlier coordinator had here of the store. One that still lives notices, and leaves."""
    for name in folders:
        shutil.rmtree(root / name, ignore_errors=True)
    for name in _WHOLE:
        (root / name).unlink(missing_ok=True)


def _number(key: str) -> int:
    """The round in a record's name; -1 for names that aren't ours."""
    digits = key.rpartition("/")[2].partition(".")[0]
    return int(digits) if digits.isdecimal() else -1
