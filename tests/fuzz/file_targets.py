"""What is read from disks that others may have written to, or that failed: models, memories, records, manifests."""

from __future__ import annotations

import contextlib
import io
import itertools
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors.numpy import save

from fuzz import wire_targets
from fuzz.claim_targets import commit_of
from muster.client_state import FolderBook, HeldUpdate, Offered
from muster.errors import DataError
from muster.models import _read
from muster_coordinator.durable import BrokenSeal, Sealed, seal, unseal
from muster_coordinator.errors import InputError
from muster_coordinator.models import StoredModel, read_first_model, read_model, write_model
from muster_coordinator.records import EvaluationRecord, PlannedClient, RoundCommit, RoundPlan, UsedUpdate
from muster_coordinator.shelf import StoredChain, StoredLink
from muster_spec.clients import ClientId
from muster_spec.loading import check
from muster_spec.problems import SpecError
from muster_spec.resolving import resolve
from muster_wire.checksum import checksum128
from muster_wire.codecs import Pipeline
from muster_wire.feedback import Memory
from muster_wire.payload import encode_snapshot

CLIENT = ClientId("p/0")
SIZE = 40
MANIFESTS = Path(__file__).parents[1] / "contract" / "manifests"


@cache
def _folder() -> Path:
    """One for the life of this process; each target has its own file in it."""
    return Path(tempfile.mkdtemp(prefix="muster-fuzz-"))


def model(data: bytes) -> None:
    """A model that is taken, stored and read again is the same."""
    path = _folder() / "first.safetensors"
    path.write_bytes(data)
    try:
        values = read_first_model(path)
    except InputError:
        return
    digest = values.digest()
    with path.open("wb") as file:
        write_model(file, StoredModel(values, 3, digest))
    assert read_model(path).digest == digest


def models() -> Iterator[bytes]:
    values = wire_targets.model()
    file = io.BytesIO()
    write_model(file, StoredModel(values, 3, values.digest()))
    yield file.getvalue()
    yield save({"weight": np.ones((2, 3), np.float16), "running_mean": np.zeros(2, np.float64), "n": np.array(7)})


def version(data: bytes) -> None:
    """The version that a worker held when it ended: a model, or nothing."""
    path = _folder() / "version"
    path.write_bytes(data)
    values = _read(path)
    assert values is None or values.digest()


def versions() -> Iterator[bytes]:
    values = wire_targets.model()
    yield f"{values.layout.to_json()}\n".encode() + encode_snapshot(values, Pipeline())
    yield b"\n"


def memory(data: bytes) -> None:
    """What a client has left to send, and its own state: read whole, or lost and said so; never a crash."""
    home = _home()
    (home / "memory.safetensors").write_bytes(data)
    (home / "state.safetensors").write_bytes(data)
    book = FolderBook(_folder(), "job")
    found = book.memory(CLIENT, SIZE)
    assert all(array.size in (0, SIZE) and np.isfinite(array).all() for array in (found.residual, found.momentum))
    with contextlib.suppress(DataError):
        book.state(CLIENT)


def memories() -> Iterator[bytes]:
    whole = Memory(np.ones(SIZE, np.float32), np.zeros(SIZE, np.float32), 7)
    for each in (whole, Memory.empty()):
        yield save(each.arrays())
    yield save({"private": np.ones(3, np.float32)})


def held(data: bytes) -> None:
    """An update that an earlier worker left: taken up and settled, or left alone."""
    home = _home()
    for name in ("memory", "state"):
        (home / f"{name}.safetensors").unlink(missing_ok=True)
    path = home / "held-1.0.p%2F0.safetensors"
    path.write_bytes(data)
    book = FolderBook(_folder(), "job")
    book.adopt(CLIENT)
    for assignment in book.held():
        assert book.find(assignment).offered.assignment == assignment
        book.settle(assignment, used=True)
        book.memory(CLIENT, SIZE)


def _home() -> Path:
    home = _folder() / "job" / "p-0"
    home.mkdir(parents=True, exist_ok=True)
    return home


def some_held() -> Iterator[bytes]:
    offered = Offered(assignment="1.0.p/0", client="p/0", pipeline=(4, 0, 256), layout=wire_targets.LAYOUT.to_json())
    after = Memory(np.ones(SIZE, np.float32), np.zeros(SIZE, np.float32), 1)
    for update in (
        HeldUpdate(offered, memoryview(b"payload")),
        HeldUpdate(offered, memoryview(b"payload"), {"head.weight": torch.ones(2)}, after),
    ):
        with tempfile.TemporaryDirectory() as folder:
            book = FolderBook(Path(folder), "job")
            book.adopt(CLIENT)
            book.keep(update)
            yield next(Path(folder).rglob("held-*")).read_bytes()


def record(data: bytes) -> None:
    """A record of a round, sealed as it is, or with a seal that fits: read back as it would be written again."""
    for kind, sealed in itertools.product(
        (RoundPlan, RoundCommit, EvaluationRecord, StoredChain), (data, _sealed(data))
    ):
        try:
            found = unseal(sealed, kind)
        except BrokenSeal:
            continue
        assert unseal(seal(found), kind) == found


def _sealed(body: bytes) -> bytes:
    try:
        return msgspec.json.encode(Sealed(checksum=checksum128(body), record=msgspec.Raw(body)))
    except msgspec.MsgspecError:
        return body


def records() -> Iterator[bytes]:
    cohort = (PlannedClient(client=CLIENT, assignment="1.0.p/0", seed=2**64 - 1, reason="drawn"),)
    yield msgspec.json.encode(
        RoundPlan(round=1, attempt=0, base="0" * 32, cohort=cohort, close_at=1, minimum=1, deadline_s=60.0, epoch=1)
    )
    used = UsedUpdate(
        client=CLIENT, assignment="1.0.p/0", round=1, examples=5, weight=5.0, steps=1, metrics={"loss": 0.5}
    )
    commit = commit_of((used,))
    yield msgspec.json.encode(commit)
    yield seal(commit)
    link = StoredLink(number=1, model="0" * 32, reference="1" * 32, base="", pipeline=(4, 2, 256), checksum="2" * 32)
    yield msgspec.json.encode(StoredChain(links=(link,)))


def manifest(data: bytes) -> None:
    """Whatever a file says, there is a list of problems, or a job."""
    path = _folder() / "job.yaml"
    path.write_bytes(data)
    found = check([path])
    assert all(problem.message and str(problem) for problem in found.problems)
    if not found.problems:
        with contextlib.suppress(SpecError):
            resolve(found, uid="job-1")


def manifests() -> Iterator[bytes]:
    files = sorted((MANIFESTS / "good").glob("*.yaml")) + sorted((MANIFESTS / "bad").glob("*.yaml"))
    yield from (path.read_bytes() for path in files[::4] if path.stat().st_size <= 2048)
