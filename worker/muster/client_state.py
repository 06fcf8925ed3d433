"""What a client keeps between rounds, and moves only when a round's commit says that its update was used.

An update is held, with the state it would lead to, until its settlement: a coordinator that lost it gets it again, and
nothing is trained twice. In memory this lasts as long as the worker; in a folder it outlives a killed one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from muster.errors import DataError
from muster_spec.clients import ClientId, split_client_id

State = Mapping[str, Tensor]
_PAYLOAD = "payload"
_STATE = "state."


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a held update but its bytes: what is said when it is offered."""

    assignment: str
    client: str
    codec: int
    layout: str
    digest: str
    examples: int = 0
    steps: int = 0
    metrics: dict[str, float] = {}
    train_ms: int = 0


@dataclass(frozen=True, slots=True)
class HeldUpdate:
    """An encoded update that waits for its settlement, and the client's private state after it."""

    offered: Offered
    payload: memoryview
    state_after: State = field(default_factory=dict)


class Book(Protocol):
    """Where a worker keeps its clients' state and their held updates."""

    def adopt(self, client: ClientId) -> None:
        """Find what is kept of a client that this worker now acts for."""

    def held(self) -> frozenset[str]:
        """The assignments whose updates are kept."""

    def keep(self, update: HeldUpdate) -> None:
        """Hold an update; once this returns it is as safe as it gets here."""

    def find(self, assignment: str) -> HeldUpdate:
        """A held update; KeyError if there is none."""

    def state(self, client: ClientId) -> State:
        """A client's state, as of the last of its updates that was used."""

    def settle(self, assignment: str, *, used: bool) -> None:
        """Promote the state that an update led to, or stay at the one before; either way forget the update."""


class MemoryBook:
    """Keeps everything for as long as this process lives."""

    def __init__(self) -> None:
        self._held: dict[str, HeldUpdate] = {}
        self._states: dict[str, State] = {}

    def adopt(self, client: ClientId) -> None:
        self._states.setdefault(client, {})

    def held(self) -> frozenset[str]:
        return frozenset(self._held)

    def keep(self, update: HeldUpdate) -> None:
        self._held[update.offered.assignment] = update

    def find(self, assignment: str) -> HeldUpdate:
        return self._held[assignment]

    def state(self, client: ClientId) -> State:
        return self._states.get(client, {})

    def settle(self, assignment: str, *, used: bool) -> None:
        update = self._held.pop(assignment)
        if used:
            self._states[update.offered.client] = update.state_after


class FolderBook:
    """Keeps everything in files, one folder a client: ``FOLDER/<job>/<pool>-<index>/``.

    ``state.safetensors`` is the client's state; each ``held-<assignment>.safetensors`` is one update with the state
    after it, written aside and renamed, so that a killed worker leaves either all of it or nothing.
    """

    def __init__(self, folder: Path, job_uid: str) -> None:
        self._folder = folder / quote(job_uid, safe="")
        self._held: dict[str, Path] = {}

    def adopt(self, client: ClientId) -> None:
        folder = self._home(client)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"{folder}: can't be made ({error.strerror}); --state needs a folder to write in"
            ) from error
        for path in folder.glob("held-*.safetensors"):
            with suppress(SafetensorError, OSError, msgspec.MsgspecError):  # torn by a failing disk: train it again
                self._held[_read_held(path).offered.assignment] = path

    def held(self) -> frozenset[str]:
        return frozenset(self._held)

    def keep(self, update: HeldUpdate) -> None:
        path = self._path(update)
        payload = torch.frombuffer(bytearray(update.payload), dtype=torch.uint8)
        state = {_STATE + name: tensor for name, tensor in update.state_after.items()}
        about = {"muster.update": msgspec.json.encode(update.offered).decode()}
        try:
            _write(path, save({_PAYLOAD: payload, **state}, about))
        except OSError as error:
            raise DataError(f"{path}: the update can't be kept there ({error.strerror}); --state needs room") from error
        self._held[update.offered.assignment] = path

    def find(self, assignment: str) -> HeldUpdate:
        return _read_held(self._held[assignment])

    def state(self, client: ClientId) -> State:
        path = self._home(client) / "state.safetensors"
        if not path.exists():
            return {}
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path}: can't be read ({error}); remove it to start this client's state anew") from error

    def settle(self, assignment: str, *, used: bool) -> None:
        path = self._held[assignment]
        if used:
            update = _read_held(path)
            if update.state_after:
                _write(path.with_name("state.safetensors"), save(dict(update.state_after)))
        path.unlink(missing_ok=True)
        del self._held[assignment]

    def _home(self, client: ClientId) -> Path:
        pool, index = split_client_id(client)
        return self._folder / f"{quote(pool, safe='')}-{index}"

    def _path(self, update: HeldUpdate) -> Path:
        name = quote(update.offered.assignment, safe="")
        return self._home(ClientId(update.offered.client)) / f"held-{name}.safetensors"


def _read_held(path: Path) -> HeldUpdate:
    with safe_open(path, framework="pt") as file:
        offered = msgspec.json.decode((file.metadata() or {}).get("muster.update", ""), type=Offered)
        payload = file.get_tensor(_PAYLOAD).numpy().data
        state = {name.removeprefix(_STATE): file.get_tensor(name) for name in _state_names(file.keys())}
    return HeldUpdate(offered, payload, state)


def _state_names(names: list[str]) -> Iterator[str]:
    return (name for name in names if name.startswith(_STATE))


def _write(path: Path, data: bytes) -> None:
    """Write aside, make durable, rename, make the name durable."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
