"""How much memory a coordinator needs, and how much of a budget is left for transfers. Numbers in, numbers out.

What it needs for sure follows from the job and the model: itself, the models that its strategy declares, the buffers
of a rule that compares updates. What is left of `coordinator.memoryBudget` is for transfers, each of which holds a few
frames; when they would take more, clients wait (gate.py). Files, staged updates among them, are page cache, which the
kernel takes back when memory is short.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from muster_coordinator.compared import comparing_bytes
from muster_coordinator.robust import Rule
from muster_coordinator.strategies import Strategy
from muster_wire.layout import Layout

IDLE_BYTES: Final = 48 * 2**20  # code and libraries, before anybody is connected
CLIENT_BYTES: Final = 48 * 1024  # of a connected one: its session, its streams
FRAMES_HELD: Final = 4  # of a transfer: arriving, arrived, on its way to the disk, and one more in grpc's hands

_MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Demand:
    """What a job needs whatever its clients do: bytes, and models beside them."""

    fixed_bytes: int
    models: int
    frame_bytes: int

    def for_transfer(self, size: int) -> int:
        """Memory that is held while so many bytes go one way."""
        return FRAMES_HELD * min(size, self.frame_bytes)

    def for_model(self, layout: Layout | None) -> int:
        """Memory without any transfer, once the model is known."""
        return self.fixed_bytes + (self.models * model_bytes(layout) if layout else 0)


def demand_of(strategy: Strategy, rule: Rule | None, clients: int, frame_bytes: int) -> Demand:
    """Of a job with so many clients, in whose rounds all of them may take part."""
    comparing = comparing_bytes(clients) if rule else 0
    models = max(strategy.models_in_memory, rule.models_in_memory if rule else 0)
    return Demand(IDLE_BYTES + CLIENT_BYTES * clients + comparing, models, frame_bytes)


def model_bytes(layout: Layout) -> int:
    """As it lies in memory."""
    floats = layout.trainable_size + layout.float_buffer_size + layout.frozen_size
    return 4 * floats + 8 * layout.integer_size


def room(budget: int, demand: Demand, layout: Layout | None) -> int:
    """Bytes that transfers may hold together; not above zero where the budget can't suffice."""
    return budget - demand.for_model(layout)


def problem_with_budget(budget: int, demand: Demand, layout: Layout) -> str | None:
    """Why this budget can never suffice for the model, with one that would; None if it can."""
    least = demand.for_model(layout) + demand.for_transfer(model_bytes(layout))
    if budget >= least:
        return None
    return (
        f"coordinator.memoryBudget: {_mib(budget)} can't hold this model of {_mib(model_bytes(layout))}: the "
        f"coordinator needs {_mib(demand.fixed_bytes)}, {demand.models} models, and room for one transfer; set "
        f"it to {_mib(least)} or more"
    )


def _mib(size: int) -> str:
    """For people, and as a manifest writes it; rounded up."""
    return f"{-(-size // _MIB)}Mi"
