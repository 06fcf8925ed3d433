"""What a client keeps between rounds, and moves only when a round's commit says that its update was used.

An update is held, with the state it would lead to, until its settlement: a coordinator that lost it gets it again, and
nothing is trained twice. In memory this lasts as long as the worker; in a folder it outlives a killed one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from muster.errors import DataError
from muster_spec.clients import ClientId, split_client_id
from muster_wire.durable import write_whole
from muster_wire.errors import LayoutError
from muster_wire.feedback import Memory
from muster_wire.pieces import Pieces

log = logging.getLogger(__name__)

State = Mapping[str, Tensor]
OURS: Final = "muster."  # names in a state begin so that are no tensor's of a model
_PAYLOAD = "payload"
_STATE = "state."
_MEMORY = "memory."
_TORN = (SafetensorError, OSError, msgspec.MsgspecError, LayoutError)


def of_model(state: State) -> State:
    """What is the model's own of a client's state."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(OURS)}


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a held update but its bytes: what is said when it is offered."""

    assignment: str
    client: str
    pipeline: tuple[int, int, int]  # codec, flags and block, as in a section's header
    layout: str
    examples: int = 0
    steps: int = 0
    metrics: dict[str, float] = {}
    train_ms: int = 0
    memory_lost: bool = False
    probe: tuple[float, float, float] | None = None  # losses at the base, with the update, with less of it


@dataclass(frozen=True, slots=True)
class HeldUpdate:
    """An encoded update that waits for its settlement, with what the client keeps if it was used.

    `memory_after` is what encoding left out; None where nothing is left out, and for a first model.
    """

    offered: Offered
    payload: memoryview | Pieces
    state_after: State = field(default_factory=dict)
    memory_after: Memory | None = None


class Book(Protocol):
    """Where a worker keeps its clients' state and their held updates."""

    def adopt(self, client: ClientId) -> None:
        """Find what is kept of a client that this worker now acts for."""

    def release(self, client: ClientId) -> bool:
        """Forget a client that another worker will act for; not while an update of it is held, which is False."""

    def shelf(self) -> Path | None:
        """Where to keep the model that this worker holds; None if nothing outlives it."""

    def held(self) -> frozenset[str]:
        """The assignments whose updates are kept."""

    def keep(self, update: HeldUpdate) -> None:
        """Hold an update; once this returns it is as safe as it gets here."""

    def find(self, assignment: str) -> HeldUpdate:
        """A held update; KeyError if there is none."""

    def state(self, client: ClientId) -> State:
        """A client's state, as of the last of its updates that was used."""

    def memory(self, client: ClientId, size: int) -> Memory:
        """What is left to send of `size` trainable values, as of that update too; empty if it is lost."""

    def settle(self, assignment: str, *, used: bool) -> None:
        """Promote the state that an update led to, or stay at the one before; either way forget the update."""


class MemoryBook:
    """Keeps everything for as long as this process lives."""

    def __init__(self) -> None:
        self._held: dict[str, HeldUpdate] = {}
        self._states: dict[str, State] = {}
        self._memories: dict[str, Memory] = {}

    def adopt(self, client: ClientId) -> None:
        self._states.setdefault(client, {})

    def release(self, client: ClientId) -> bool:
        if any(update.offered.client == client for update in list(self._held.values())):
            return False
        # What is known of it here is out of date as soon as another worker has trained for it.
        self._states.pop(client, None)
        self._memories.pop(client, None)
        return True

    def shelf(self) -> Path | None:
        return None

    def held(self) -> frozenset[str]:
        return frozenset(self._held)

    def keep(self, update: HeldUpdate) -> None:
        self._held[update.offered.assignment] = update

    def find(self, assignment: str) -> HeldUpdate:
        return self._held[assignment]

    def state(self, client: ClientId) -> State:
        return self._states.get(client, {})

    def memory(self, client: ClientId, size: int) -> Memory:
        return _fitting(self._memories.get(client, Memory.empty()), client, size)

    def settle(self, assignment: str, *, used: bool) -> None:
        update = self._held.pop(assignment)
        if used:
            before = self._memories.get(update.offered.client, Memory.empty())
            for follower in followers(update, self._held.values(), before):
                self.keep(follower)
            self._states[update.offered.client] = update.state_after
            if update.memory_after is not None:
                self._memories[update.offered.client] = update.memory_after


class FolderBook:
    """Keeps everything in files, one folder a client: ``FOLDER/<job>/<pool>-<index>/``.

    ``state.safetensors`` is the client's state and ``memory.safetensors`` what is left of its updates to send; each
    ``held-<assignment>.safetensors`` is one update with both as they are after it. All are written aside and renamed,
    and a held update goes last: a worker that is killed while it settles one does it again, to the same end. Whoever
    acts for a client next finds all of it there. The model that the worker holds lies with the first of its clients, as
    ``reference.bin``.
    """

    def __init__(self, folder: Path, job_uid: str) -> None:
        self._folder = folder / quote(job_uid, safe="")
        self._held: dict[str, Path] = {}
        self._first: ClientId | None = None

    def shelf(self) -> Path | None:
        return self._home(self._first) / "reference.bin" if self._first else None

    def adopt(self, client: ClientId) -> None:
        self._first = min(self._first or client, client)
        folder = self._home(client)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"{folder}: can't be made ({error.strerror}); --state needs a folder to write in"
            ) from error
        for path in folder.glob("held-*.safetensors"):
            with suppress(*_TORN):  # by a failing disk: train it again
                offered = _read_held(path).offered
                if offered.client == client:
                    self._held[offered.assignment] = path

    def release(self, client: ClientId) -> bool:
        home = self._home(client)
        return not any(path.parent == home for path in list(self._held.values()))

    def held(self) -> frozenset[str]:
        return frozenset(self._held)

    def keep(self, update: HeldUpdate) -> None:
        path = self._path(update)
        payload = torch.frombuffer(bytearray(bytes(update.payload)), dtype=torch.uint8)
        state = {_STATE + name: tensor for name, tensor in update.state_after.items()}
        if update.memory_after is not None:
            state |= {_MEMORY + name: tensor for name, tensor in _tensors(update.memory_after).items()}
        about = {"muster.update": msgspec.json.encode(update.offered).decode()}
        try:
            write_whole(path, save({_PAYLOAD: payload, **state}, about))
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

    def memory(self, client: ClientId, size: int) -> Memory:
        return _fitting(self._memory(client), client, size)

    def settle(self, assignment: str, *, used: bool) -> None:
        path = self._held[assignment]
        if used:
            self._promote(_read_held(path))
        path.unlink(missing_ok=True)
        del self._held[assignment]

    def _promote(self, update: HeldUpdate) -> None:
        client = ClientId(update.offered.client)
        others = [_read_held(path) for name, path in self._held.items() if self._is_other(update, name, path)]
        for follower in followers(update, others, self._memory(client)):
            self.keep(follower)
        if update.state_after:
            write_whole(self._home(client) / "state.safetensors", save(dict(update.state_after)))
        if update.memory_after is not None:
            write_whole(self._home(client) / "memory.safetensors", save(_tensors(update.memory_after)))

    def _is_other(self, update: HeldUpdate, assignment: str, path: Path) -> bool:
        return path.parent == self._path(update).parent and assignment != update.offered.assignment

    def _memory(self, client: ClientId) -> Memory:
        path = self._home(client) / "memory.safetensors"
        if not path.exists():
            return Memory.empty()
        try:
            return _memory_of(load_file(path))
        except (SafetensorError, OSError, LayoutError) as error:
            log.warning(
                "%s: can't be read (%s): what %s has left to send is lost and starts at zero", path, error, client
            )
            return Memory.empty()

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
        state, memory = (_with_prefix(prefix, file) for prefix in (_STATE, _MEMORY))
    return HeldUpdate(offered, payload, state, _memory_of(memory) if memory else None)


def _with_prefix(prefix: str, file: Any) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118


def followers(used: HeldUpdate, held: Iterable[HeldUpdate], before: Memory) -> Iterator[HeldUpdate]:
    """Held updates of the same client that were made without knowing that this one would be used.

    A client whose late update waits for a round may be asked for another one meanwhile. What that one leaves behind is
    then put right. Participations tell which have been: settling twice, after a crash, changes them once.
    """
    if used.memory_after is None:
        return
    for update in list(held):
        after = update.memory_after if update.offered.client == used.offered.client else None
        if after is not None and before.participations < after.participations <= used.memory_after.participations:
            yield replace(update, memory_after=after.after_another(before, used.memory_after))


def _tensors(memory: Memory) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in memory.arrays().items()}


def _memory_of(tensors: State) -> Memory:
    """LayoutError if that isn't what they are, whatever the size of the model."""
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    size = max((arrays[name].size for name in ("residual", "momentum") if name in arrays), default=0)
    return Memory.from_arrays(arrays, size)


def _fitting(memory: Memory, client: ClientId, size: int) -> Memory:
    try:
        return Memory.from_arrays(memory.arrays(), size)
    except LayoutError as error:
        log.warning("%s: what it has left to send is lost and starts at zero (%s)", client, error)
        return Memory.empty()
