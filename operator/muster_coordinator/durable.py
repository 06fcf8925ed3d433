"""Writes that survive a crash whole or not at all: the ground under the store.

A file appears under its name only when its bytes are on the disk: write aside, fsync, rename or link, fsync the folder.
`link(2)` refuses a name that is taken, which is the exclusive creation that fences two coordinators; file systems
without it are refused at the start instead of being trusted. Records are sealed with a checksum of their own bytes, so
that one torn or altered on the disk is noticed instead of believed.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec
import xxhash

from muster_coordinator.errors import CommitLost, DiskError, StorageError
from muster_coordinator.observer import Observer
from muster_wire.durable import sync_folder

TEMPORARY = ".tmp"

Write = Callable[[BinaryIO], object]
RecordT = TypeVar("RecordT", bound=msgspec.Struct)


class Sealed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record on the disk: its bytes as they were written, and their checksum."""

    checksum: str
    record: msgspec.Raw


class BrokenSeal(Exception):  # noqa: N818 - says what happened to the file
    """A record is torn, altered, or not a record at all."""


def seal(record: msgspec.Struct) -> bytes:
    """The bytes of a sealed record, a line of JSON that people can read."""
    body = msgspec.json.encode(record)
    return msgspec.json.encode(Sealed(checksum=_checksum(body), record=msgspec.Raw(body))) + b"\n"


def unseal(data: bytes, kind: type[RecordT]) -> RecordT:
    """The record in these bytes. Raises BrokenSeal where they are not what was written."""
    try:
        sealed = msgspec.json.decode(data, type=Sealed)
        body = bytes(sealed.record)
        if _checksum(body) != sealed.checksum:
            raise BrokenSeal("its checksum doesn't match its content")
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BrokenSeal(f"it can't be read: {error}") from error


def _checksum(body: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(body)


@dataclass(frozen=True, slots=True)
class Disk:
    """Whole-or-nothing writes. The observer hears of each step: a crash may come at any of them."""

    observer: Observer
    token: str = field(default_factory=lambda: secrets.token_hex(4))  # two containers may well share a process id

    def check(self, folder: Path) -> None:
        """Prove that two coordinators can't overwrite one another here. Raises StorageError where they could."""
        try:
            held = creates_once(self, folder)
        except OSError as error:
            raise StorageError(
                f"storage {folder}: no hard links here ({error.strerror}), so two coordinators could overwrite each "
                "other's rounds; use a local disk, NFS or another file system that has them"
            ) from error
        if not held:
            raise StorageError(
                f"storage {folder}: creates a file twice under one name; it can't keep two coordinators apart"
            )

    def replace(self, path: Path, write: Write) -> None:
        """Put a file in place of whatever has its name."""
        temporary = self._write_aside(path, write)
        try:
            temporary.rename(path)
        except FileNotFoundError as error:
            raise taken_over(temporary) from error
        self.observer.reached(f"named {path.name}")
        sync_folder(path.parent)
        self.observer.reached(f"wrote {path.name}")

    def create(self, path: Path, write: Write) -> bool:
        """Make a file unless its name is taken; whether it was this call that made it."""
        temporary = self._write_aside(path, write)
        try:
            created = _link(temporary, path)
            self.observer.reached(f"named {path.name}")
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
        self.observer.reached(f"wrote {path.name}")
        return created

    def remove(self, path: Path) -> None:
        """Nobody needs this file any more."""
        path.unlink(missing_ok=True)

    def put_aside(self, path: Path, aside: Path) -> None:
        """Keep a damaged file under another name."""
        path.replace(aside)
        sync_folder(path.parent)

    def name_too(self, path: Path, other: Path) -> None:
        """Give a file a second name, in place of whatever has it."""
        temporary = other.with_name(f".{other.name}{TEMPORARY}")
        temporary.unlink(missing_ok=True)
        os.link(path, temporary)
        temporary.rename(other)
        temporary.unlink(missing_ok=True)  # rename does nothing between two names of one file
        sync_folder(other.parent)

    def bring(self, path: Path) -> Path:
        """The file of this name, if there is one: here it is where it belongs."""
        return path

    def _write_aside(self, path: Path, write: Write) -> Path:
        self.observer.reached(f"writing {path.name}")
        temporary = path.with_name(f".{path.name}.{self.token}{TEMPORARY}")
        try:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise DiskError(f"cannot write {path}: {error.strerror or error}") from error
        self.observer.reached(f"wrote aside {path.name}")
        return temporary


def _link(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        return _is_same_file(temporary, path)  # over NFS a link can succeed and its answer be lost: asked again, EEXIST
    except FileNotFoundError as error:
        raise taken_over(temporary) from error
    return True


def _is_same_file(temporary: Path, path: Path) -> bool:
    try:
        return temporary.samefile(path)
    except FileNotFoundError:
        return False


def taken_over(temporary: Path) -> CommitLost:
    """Only a coordinator that starts cleans temporary files away, so the newer one is now in charge."""
    return CommitLost(f"another coordinator has started on {temporary.parent.parent} and cleared this one's work away")


def clear_temporaries(folder: Path) -> None:
    """Remove what a crash left half-written."""
    for leftover in folder.glob(f".*{TEMPORARY}"):
        leftover.unlink(missing_ok=True)


def creates_once(disk: Disk, folder: Path) -> bool:
    """Whether a name can be taken only once."""
    probe = folder / f".probe.{disk.token}"
    try:
        return disk.create(probe, lambda file: file.write(b"1")) and not disk.create(
            probe, lambda file: file.write(b"2")
        )
    finally:
        disk.remove(probe)
