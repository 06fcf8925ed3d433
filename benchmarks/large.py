"""A model beyond 2 GiB goes round: the first model up, then down to two clients, their updates up, the next one stored.

The coordinator is a real process. Clients train nothing and keep what they send and receive in files, so that the
machine needs room for one copy of the model in the coordinator and page cache. Known values at both ends of a tensor
that alone has more than 2³¹ bytes are followed through to the stored file, which the safetensors library reads. Exits
with 77 where there is no room for it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from safetensors import safe_open

from memory import MEAN, TOKEN, Case, Sampler, write_job
from muster_coordinator.limits import frame_bytes
from muster_coordinator.rehearsal import Drift, Held, RehearsalWorker, Trained
from muster_wire.checksum import BytesLike
from muster_wire.codecs import CodecId
from muster_wire.frames import Header, Reassembly, Transfer, prepare
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.payload import PayloadKind, decode_in_place, encode_snapshot, encode_update
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.values import Values

SKIPPED = 77
CLIENTS, ROUNDS = 2, 1
COLUMNS = 4096


def places(values: int) -> list[int]:
    """Where known values lie: at both ends, and about those 2^29 that are 2 GiB, where there are so many."""
    return [place for place in (0, 1, 2**29 - 1, 2**29, -2, -1) if place < values - 2]


class Spool:
    """Bytes in a file without a name, mapped: page cache, and no memory of this process's own."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 -- `view` closes it

    def append(self, data: BytesLike) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file.fileno(), rest) :]

    def view(self) -> memoryview:
        with self._file as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


class Giant(Drift):
    """A model of zeros but for a few places, and an update that adds one there."""

    def __init__(self, gib: float, folder: Path) -> None:
        rows = int(gib * 2**30) // 4 // COLUMNS
        self.layout = Layout((TensorSpec("giant", (rows, COLUMNS), "float32", Kind.TRAINABLE),))
        self.folder = folder
        self.transfers = {kind: self._transfer(kind) for kind in PayloadKind}

    def _transfer(self, kind: PayloadKind) -> Transfer:
        values = Values.zeros(self.layout, frozen=kind is PayloadKind.SNAPSHOT)
        known = places(values.trainable.size)
        values.trainable[known] = np.arange(1, len(known) + 1) if kind is PayloadKind.SNAPSHOT else 1
        encode = encode_snapshot if kind is PayloadKind.SNAPSHOT else encode_update
        spool = Spool(self.folder)
        spool.append(encode(values, CodecId.FLOAT32))
        return prepare(spool.view(), self.layout, CodecId.FLOAT32, "", frame_bytes(CLIENTS))

    def first(self, seed: int) -> Values:  # noqa: ARG002 -- what a learner is given
        return Values.zeros(self.layout)  # a stand-in: never written, and so no memory

    def train(self, base: Values, seed: int) -> Trained:  # noqa: ARG002 -- what a learner is given
        return Trained(Values.zeros(self.layout, frozen=False), examples=1)


class Client(RehearsalWorker):
    """Sends what lies ready, and receives into a file."""

    learner: Giant

    def encode(self, trained: Trained, codec: CodecId) -> Held:  # noqa: ARG002 -- float32 is all that lies ready
        return Held(self.learner.transfers[PayloadKind.UPDATE if trained.examples else PayloadKind.SNAPSHOT], trained)

    async def fetch(self, digest: str) -> Values:
        spool, partial = Spool(self.learner.folder), None
        request = pb.FetchRequest(session=self.session, digest=digest)
        async for frame in self.stub.Fetch(request, metadata=self.metadata):
            partial = partial or Reassembly(Header.from_message(frame.header), spool)
            partial.add(frame)
        if partial is None:
            raise ValueError("the coordinator sent no frame")
        partial.finish()
        values = decode_in_place(partial.header.shape(PayloadKind.SNAPSHOT), spool.view())
        found = await asyncio.to_thread(values.digest)  # seconds, in which beats have to go on
        if found != digest:
            raise ValueError(f"what was fetched as {digest} has the digest {found}")
        return values


async def work(address: str, giant: Giant) -> None:
    """Two clients, until the job is over."""
    clients = [Client(address, TOKEN, "p", [index], giant, f"w{index}") for index in range(CLIENTS)]
    await asyncio.gather(*(client.run() for client in clients))


def measure(giant: Giant, folder: Path) -> tuple[float, float, float]:
    """Idle and peak RssAnon in MB, and seconds."""
    (folder / "token").write_text(TOKEN)
    command = [
        sys.executable,
        "-m",
        "muster_coordinator",
        "--job",
        str(write_job(folder, Case(CLIENTS, ROUNDS, 0, "mean", MEAN))),
    ]
    command += ["--storage", str(folder / "storage"), "--listen", "127.0.0.1:0", "--token-file", str(folder / "token")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        if process.stdout is None:
            raise RuntimeError("a process with a pipe has one")
        address = json.loads(process.stdout.readline())["address"]
        threading.Thread(target=process.stdout.read, daemon=True).start()
        time.sleep(0.5)
        sampler, began = Sampler(process.pid), time.monotonic()
        idle_kb = sampler.now_kb()
        sampler.start()
        asyncio.run(work(address, giant))
        took = time.monotonic() - began
        if process.wait(60) != 0:
            raise RuntimeError(f"the coordinator ended with {process.returncode}")
    return idle_kb / 1000, sampler.peak_kb / 1000, took


def has_right_values(stored: Path) -> bool:
    """Whether the stored model is the first one and one more, where it isn't zero."""
    with safe_open(stored, "numpy") as file:
        giant = file.get_slice("giant")
        rows, _ = giant.get_shape()
        found = []
        for place in places(rows * COLUMNS):
            row, column = divmod(place % (rows * COLUMNS), COLUMNS)
            found.append(float(giant[row : row + 1][0, column]))
        between = float(np.abs(giant[rows // 2 : rows // 2 + 1]).max())
    return found == [index + 2.0 for index in range(len(found))] and between == 0


def has_room(folder: Path, gib: float) -> bool:
    """Memory for three models, and disk for ten."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    available_kb = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    return available_kb > 3 * gib * 2**20 and shutil.disk_usage(folder).free > 10 * gib * 2**30


def main() -> int:
    """Run it once; 1 if a value got lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=2.2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="muster-large-") as name:
        folder = Path(name)
        if not has_room(folder, given.gib):
            print(f"needs {3 * given.gib:.0f} GiB of memory and {10 * given.gib:.0f} GiB of disk: skipped")
            return SKIPPED
        idle, peak, took = measure(Giant(given.gib, folder), folder)
        holds = has_right_values(folder / "storage" / "final.safetensors")
    megabytes = given.gib * 2**30 / 1e6
    figures = {"gib": given.gib, "clients": CLIENTS, "idle_mb": idle, "peak_mb": peak, "seconds": took}
    figures["models_over_idle"] = (peak - idle) / megabytes
    print(json.dumps({key: round(value, 2) for key, value in figures.items()} | {"holds": holds}))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
