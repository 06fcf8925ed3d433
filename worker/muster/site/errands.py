"""What rank 0 asks of the others: JSON for what is said, raw buffers for a model's numbers, safetensors for state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
from safetensors.torch import load, save
from torch import Tensor

from muster.orders import SubModel
from muster.site.fabric import Fabric, spread
from muster.task import Client
from muster_spec.work import Work
from muster_wire.layout import Layout
from muster_wire.submodel import Draw
from muster_wire.values import Values


class Subject(msgspec.Struct, frozen=True):
    """The client that an errand is for, and where its data lies."""

    pool: str
    index: int
    ordinal: int
    clients_total: int
    pool_clients: int
    seed: int
    data_dir: str | None

    @property
    def client(self) -> Client:
        place = Path(self.data_dir) if self.data_dir is not None else None
        known = (self.pool, self.index, self.ordinal, self.clients_total, self.pool_clients, self.seed)
        return Client(*known, place)


def subject_of(client: Client) -> Subject:
    """What is said of a client."""
    known = (client.pool, client.index, client.ordinal, client.clients_total, client.pool_clients, client.seed)
    return Subject(*known, str(client.data_dir) if client.data_dir is not None else None)


class Begin(msgspec.Struct, frozen=True, tag=True):
    """The job, before any other errand."""

    work: Work


class Leave(msgspec.Struct, frozen=True, tag=True):
    """It is over."""


class Train(msgspec.Struct, frozen=True, tag=True):
    """Train from a model, which follows with the client's state. Seconds left are none for no limit."""

    number: int
    client: Subject
    seed: int
    layout: str
    seconds_left: float | None = None
    steps: int = 0
    part: tuple[int, int, int, float, str] | None = None  # a draw of the model's units, and the digest of its groups


class Evaluate(msgspec.Struct, frozen=True, tag=True):
    """Measure a model, which follows with the client's state, on the rank's own held-out examples."""

    client: Subject
    layout: str


class Losses(msgspec.Struct, frozen=True, tag=True):
    """The losses of so many models of one layout, which follow after the client's state."""

    count: int
    client: Subject
    seed: int
    layout: str
    part: tuple[int, int, int, float, str] | None = None


Errand = Begin | Leave | Train | Evaluate | Losses
_DECODER = msgspec.json.Decoder(Errand)


def send_errand(fabric: Fabric, errand: Errand) -> None:
    """As rank 0."""
    spread(fabric, msgspec.json.encode(errand))


def await_errand(fabric: Fabric) -> Errand:
    """As any other rank."""
    errand: Errand = _DECODER.decode(spread(fabric))
    return errand


def part_fields(wanted: SubModel | None) -> tuple[int, int, int, float, str] | None:
    """A part of a model as it is said in an errand."""
    draw = wanted.draw if wanted else None
    return (draw.seed, draw.number, draw.masks, draw.keep, wanted.groups) if wanted and draw else None


def wanted_part(fields: tuple[int, int, int, float, str] | None) -> SubModel | None:
    """The opposite."""
    return SubModel(Draw(*fields[:4]), fields[4]) if fields else None


def send_model(fabric: Fabric, values: Values) -> None:
    """As rank 0: a model, which stays as it is."""
    _broadcast(fabric, values)


def take_model(fabric: Fabric, layout: str) -> Values:
    """As any other rank."""
    values = Values.zeros(Layout.from_json(layout))
    _broadcast(fabric, values)
    return values


def _broadcast(fabric: Fabric, values: Values) -> None:
    for buffer in values.buffers:
        if buffer.size:
            fabric.broadcast(buffer)


def send_state(fabric: Fabric, state: Mapping[str, Tensor]) -> None:
    """As rank 0: a client's state, of which each rank takes what is its own."""
    spread(fabric, save_tensors(state))


def take_state(fabric: Fabric) -> dict[str, Tensor]:
    """As any other rank."""
    return load_tensors(spread(fabric))


def save_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """As safetensors; nothing of nothing."""
    return save({name: tensor.contiguous() for name, tensor in tensors.items()}) if tensors else b""


def load_tensors(data: bytes) -> dict[str, Tensor]:
    """The opposite."""
    return load(data) if data else {}
