"""What a server optimiser keeps from round to round: buffers beside the model, in files, as durable as the model is.

Each buffer is as long as the model's trainable values. The newest ones are mapped from their stored file and the next
ones are written into a file without a name, block by block, while the next model is made; then they are stored under
the digest of their content, which goes into the round's commit record. All of that is page cache: an optimiser costs
disk, and no memory of this process.

The values before the first round need no file: an optimiser says what they are.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from muster_coordinator.errors import StorageError
from muster_coordinator.models import ModelFileError
from muster_coordinator.records import RoundCommit
from muster_coordinator.store import FileStore
from muster_coordinator.strategies import Optimizer, Step, Strategy, Wide
from muster_coordinator.strategies.scaffold import ControlVariate
from muster_coordinator.sums import BLOCK
from muster_coordinator.tensorfile import Contents, Entry, TensorFileError, encode_header, read_contents
from muster_wire.checksum import Checksum128
from muster_wire.layout import Layout
from muster_wire.values import Floats

_LAYOUT: Final = "muster.layout.digest"


@dataclass(frozen=True, slots=True, eq=False)
class Buffers:
    """What is kept, by name, and of which model. `digest` names the content."""

    layout: Layout
    values: dict[str, Floats]

    def digest(self) -> str:
        state = Checksum128()
        state.update(self.layout.digest.encode())
        for name, buffer in self.values.items():
            state.update(name.encode())
            state.update(buffer.data)
        return state.hexdigest()

    def write(self, file: BinaryIO) -> None:
        """As a safetensors file: one flat tensor a buffer."""
        size, code = self.layout.trainable_size, "F32"
        entries = (Entry(name, code, (size,), 4 * size * place) for place, name in enumerate(self.values))
        file.write(encode_header(entries, {_LAYOUT: self.layout.digest}))
        file.writelines(buffer.data for buffer in self.values.values())


def read_buffers(path: Path, digest: str, layout: Layout, names: tuple[str, ...]) -> Buffers:
    """Stored buffers, mapped. ModelFileError if they are not what was stored, to the last bit."""
    try:
        with path.open("rb") as file:
            contents = read_contents(file, os.fstat(file.fileno()).st_size)
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        buffers = Buffers(layout, dict(_views(data, contents, layout, names)))
    except OSError as error:
        raise ModelFileError(f"{path}: can't be read: {error.strerror}") from error
    except (TensorFileError, ValueError) as error:
        raise ModelFileError(f"{path}: not what a server optimiser kept: {error}") from error
    if buffers.digest() != digest:
        raise ModelFileError(f"{path}: its content doesn't have its digest any more")
    return buffers


def _views(data: mmap.mmap, contents: Contents, layout: Layout, names: tuple[str, ...]) -> Iterator[tuple[str, Floats]]:
    found = {entry.name: entry for entry in contents.entries}
    size = layout.trainable_size
    for name in names:
        entry = found.get(name)
        if entry is None or (entry.code, entry.shape) != ("F32", (size,)):
            raise TensorFileError(f"it has no {name} of {size} float32 values")
        start = contents.data_start + entry.start
        yield name, np.frombuffer(data, "<f4", size, start) if size else np.zeros(0, np.float32)


class Walk:
    """The steps of one round, over blocks that come in order: each reads what was kept and writes what is kept next."""

    def __init__(self, optimizer: Optimizer, layout: Layout, before: Buffers | None, folder: Path) -> None:
        self._optimizer = optimizer
        self._before = before
        self._next = _scratch(folder, layout, optimizer.keeps)
        self._place = 0

    def step(self, base: Wide, mean: Wide) -> Wide:
        """The next values of the next block."""
        block = slice(self._place, self._place + base.size)
        moved, kept = self._optimizer.step(base, mean, self._kept(block))
        for buffer, values in zip(self._next.values.values(), kept, strict=True):
            buffer[block] = values
        self._place = block.stop
        return moved

    def _kept(self, block: slice) -> tuple[Wide, ...]:
        if self._before is None:
            return tuple(np.full(block.stop - block.start, value) for value in self._optimizer.first)
        return tuple(buffer[block].astype(np.float64) for buffer in self._before.values.values())

    def end(self) -> Buffers:
        """What is kept next, once every value has had its turn."""
        if self._place != self._next.layout.trainable_size:
            raise ValueError(f"{self._place} of {self._next.layout.trainable_size} values have been stepped")
        return self._next


def _scratch(folder: Path, layout: Layout, names: tuple[str, ...]) -> Buffers:
    """Buffers in a file without a name, which goes with them."""
    size = layout.trainable_size
    length = 4 * size * len(names)
    if not length:
        return Buffers(layout, {name: np.zeros(0, np.float32) for name in names})
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, length)  # else a full disk shows as SIGBUS
            data = mmap.mmap(file.fileno(), length)
    except OSError as error:
        raise StorageError(
            f"{folder}: no room for what the server optimiser keeps ({error.strerror}): free some disk there, or give "
            "the coordinator a larger volume"
        ) from error
    return Buffers(layout, {n: np.frombuffer(data, "<f4", size, 4 * size * place) for place, n in enumerate(names)})


class ServerState:
    """The buffers of one job: those that go with the newest model, and the stored ones that an older one may need."""

    def __init__(self, store: FileStore, strategy: Strategy, keep: int) -> None:
        self._store = store
        self._optimizer = strategy.optimizer
        self._keeper = strategy.keeper
        self._recent: deque[str] = deque(maxlen=keep)
        self._stored: set[str] = set()
        self._newest: Buffers | None = None
        self._walk: Walk | None = None

    def begin(self, layout: Layout, scale: float = 1.0) -> Step:
        """The step that makes the next model of this layout; its blocks come in order, each value once.

        The mean is multiplied by the scale before it.
        """
        step = self._stateless
        if self._optimizer.keeps:
            self._walk = Walk(self._optimizer, layout, self._newest, self._store.staging)
            step = self._walk.step
        return step if scale == 1 else lambda base, mean: step(base, scale * mean)

    def _stateless(self, base: Wide, mean: Wide) -> Wide:
        return self._optimizer.step(base, mean, ())[0]

    def move_control(self, layout: Layout, drift: Floats, taken: int) -> None:
        """Let the control variate take its step, with Σ Δ_i / K_i of so many updates."""
        if not isinstance(self._keeper, ControlVariate):
            raise TypeError("only a strategy with a control variate makes a second sum")
        walk = self._walk = Walk(replace(self._keeper, taken=taken), layout, self._newest, self._store.staging)
        for start in range(0, drift.size, BLOCK):
            block = drift[start : start + BLOCK].astype(np.float64)
            walk.step(block, block)

    def control(self, layout: Layout) -> Floats | None:
        """The control variate that goes with the newest model; None where the strategy has none."""
        if not isinstance(self._keeper, ControlVariate):
            return None
        return np.zeros(layout.trainable_size, np.float32) if self._newest is None else self._newest.values["control"]

    @property
    def last_mean(self) -> Floats | None:
        """What the updates of the newest round came to; None before the first, and where nobody asks for it."""
        return self._newest.values.get("mean") if self._newest is not None else None

    def keep(self) -> str:
        """Make durable what the last step leaves; its digest, empty where nothing is kept."""
        if self._walk is None:
            return ""
        made, self._walk = self._walk.end(), None
        digest = made.digest()
        path = self._store.save_server_state(digest, made.write)
        self._newest = read_buffers(path, digest, made.layout, self._keeper.keeps)
        self.remember([digest])
        return digest

    def load(self, commit: RoundCommit, layout: Layout) -> None:
        """Take up what was kept with a round's model. ModelFileError if it is not what was stored."""
        self._walk = self._newest = None
        if not self._keeper.keeps or not commit.round:
            return
        if not commit.server_state:
            raise ModelFileError(f"round {commit.round}: its record names nothing that the server optimiser kept")
        path = self._store.server_state_path(commit.server_state)
        self._newest = read_buffers(path, commit.server_state, layout, self._keeper.keeps)

    def remember(self, digests: Iterable[str]) -> None:
        """These are stored, the newest last."""
        for digest in filter(None, digests):
            self._stored.add(digest)
            self._recent.append(digest)

    def prune(self) -> None:
        """Forget all stored buffers but the newest few: only from one of those a job is ever gone on from."""
        dropped = self._stored.difference(self._recent)
        self._stored -= dropped
        self._store.remove_server_states(dropped)
