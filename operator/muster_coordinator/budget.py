"""How much memory a coordinator needs, and how much of a budget is left for transfers. Numbers in, numbers out.

What it needs for sure follows from the job and the model: itself, the models that its strategy and the changes that
models come down as declare, the buffers of a rule that compares updates, what matching layers takes. What is left of
`coordinator.memoryBudget` is for transfers, each of which holds a few frames; when they would take more, clients wait
(gate.py). Files, staged updates among them, are page cache, which the kernel takes back when memory is short.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from muster_coordinator.combining import Combining
from muster_coordinator.compared import comparing_bytes
from muster_coordinator.compression import Down
from muster_coordinator.matching.assignment import Matching
from muster_coordinator.matching.room import SOLVER_BYTES, largest, models_in_memory, table_bytes
from muster_coordinator.strategies import Strategy
from muster_wire.layout import Layout

IDLE_BYTES: Final = 48 * 2**20  # code and libraries, before anybody is connected
CLIENT_BYTES: Final = 48 * 1024  # of a connected one: its session, its streams
FRAMES_HELD: Final = 4  # of a transfer: arriving, arrived, on its way to the disk, and one more in grpc's hands

DOWN_WHOLE: Final = Down()

_MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Demand:
    """What a job needs whatever its clients do: bytes, and models beside them."""

    fixed_bytes: int
    models: int
    frame_bytes: int
    matching: Matching | None = None  # how layers are matched, where they are

    def for_transfer(self, size: int) -> int:
        """Memory that is held while so many bytes go one way."""
        return FRAMES_HELD * min(size, self.frame_bytes)

    def for_model(self, layout: Layout | None) -> int:
        """Memory without any transfer, once the model is known."""
        if layout is None:
            return self.fixed_bytes
        table = table_bytes(layout) if self.matching else 0
        return self.fixed_bytes + self.models * model_bytes(layout) + table

    def largest(self, layout: Layout) -> Layout:
        """What a first model may become."""
        return largest(layout, self.matching) if self.matching else layout


def demand_of(
    strategy: Strategy, combining: Combining, clients: int, frame_bytes: int, down: Down = DOWN_WHOLE
) -> Demand:
    """Of a job with so many clients, in whose rounds all of them may take part."""
    rule, matching = combining.rule, combining.matching
    beside = (comparing_bytes(clients) if rule else 0) + (SOLVER_BYTES if matching else 0)
    models = max(
        strategy.models_in_memory,
        down.models_in_memory,
        rule.models_in_memory if rule else 0,
        models_in_memory(matching) if matching else 0,
    )
    return Demand(IDLE_BYTES + CLIENT_BYTES * clients + beside, models, frame_bytes, matching)


def model_bytes(layout: Layout) -> int:
    """As it lies in memory."""
    floats = layout.trainable_size + layout.float_buffer_size + layout.frozen_size
    return 4 * floats + 8 * layout.integer_size


def room(budget: int, demand: Demand, layout: Layout | None) -> int:
    """Bytes that transfers may hold together; not above zero where the budget can't suffice."""
    return budget - demand.for_model(layout)


def problem_with_budget(budget: int, demand: Demand, layout: Layout) -> str | None:
    """Why this budget can never suffice for the model, with one that would; None if it can."""
    most = demand.largest(layout)
    least = demand.for_model(most) + demand.for_transfer(model_bytes(most))
    if budget >= least:
        return None
    grown = f", which may grow to {_mib(model_bytes(most))}" if most != layout else ""
    return (
        f"coordinator.memoryBudget: {_mib(budget)} can't hold this model of {_mib(model_bytes(layout))}{grown}: the "
        f"coordinator needs {_mib(demand.fixed_bytes)}, {demand.models} models, and room for one transfer; set "
        f"it to {_mib(least)} or more"
    )


def _mib(size: int) -> str:
    """For people, and as a manifest writes it; rounded up."""
    return f"{-(-size // _MIB)}Mi"
