"""Parts of the model, for jobs whose clients train no more than that (spec.compression.federatedDropout).

When a round opens, each of its parts is cut out of the base and encoded once; everybody who trains the same part shares
its frames. Which part is whose follows from the job's seed, the round and the client's place in the stored plan, so
that a restarted coordinator means the same parts, and puts an update that a client still holds in the same places.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass

from muster_coordinator.assignments import parts_seed
from muster_coordinator.broadcast import Broadcasts, Version
from muster_coordinator.instructions import OrderTraining
from muster_spec.strategy_types import FederatedDropout
from muster_wire.groups import groups_digest
from muster_wire.layout import Layout
from muster_wire.messages import draw_message
from muster_wire.submodel import Draw, Part, part_of
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.values import Values

log = logging.getLogger("muster.coordinator")


@dataclass(frozen=True, slots=True)
class Dropout:
    """How a job draws its parts; no round has more of them than it asks clients."""

    seed: int  # the job's
    keep: float
    masks: int

    def draw(self, round_number: int, place: int) -> Draw:
        """The part of whoever has this place in a round's cohort."""
        return Draw(parts_seed(self.seed, round_number), place % self.masks, self.masks, self.keep)


def dropout_of(wanted: FederatedDropout | None, seed: int, asked: int) -> Dropout | None:
    """As the job says it, for a round that asks so many clients; None: everybody trains the whole model."""
    return Dropout(seed, wanted.keep, min(wanted.masks, asked)) if wanted else None


class Parts:
    """The parts of the newest rounds. The driver publishes, the server's loop reads."""

    def __init__(self, dropout: Dropout, broadcasts: Broadcasts, rounds_kept: int) -> None:
        self._dropout = dropout
        self._broadcasts = broadcasts  # of parts only
        self._rounds_kept = rounds_kept
        self._lock = threading.Lock()
        self._references: OrderedDict[int, tuple[str, ...]] = OrderedDict()  # by round, then by number
        self._groups = ""

    def publish(self, base: Values, round_number: int) -> None:
        """Cut the parts of a round out of its base and encode them, once."""
        if round_number in self._references:
            return
        parts = [part_of(base.layout, self._dropout.draw(round_number, n)) for n in range(self._dropout.masks)]
        first = round_number * self._dropout.masks
        references = tuple(self._publish(part.take(base), first + n) for n, part in enumerate(parts))
        share = parts[0].layout.model_bytes / max(base.layout.model_bytes, 1)
        log.info("round %d: %d parts of the model, each %.0f %% of it", round_number, len(parts), 100 * share)
        with self._lock:
            self._groups = groups_digest(base.layout.groups)
            self._references[round_number] = references
            while len(self._references) > self._rounds_kept:
                self._references.popitem(last=False)

    def _publish(self, values: Values, number: int) -> str:
        name = values.digest()
        self._broadcasts.publish(name, values, number)
        return self._broadcasts.reference(name)

    def reference(self, order: OrderTraining) -> str:
        """What clients call the part that this order is about; empty for a round whose parts are gone."""
        with self._lock:
            references = self._references.get(order.round, ())
        return references[order.place % self._dropout.masks] if references else ""

    def message(self, order: OrderTraining) -> pb.SubModel:
        """What an order says of its part."""
        return draw_message(self._dropout.draw(order.round, order.place), self._groups)

    def get(self, reference: str) -> Version | None:
        """A part, ready to be sent."""
        way = self._broadcasts.way(reference, "", snapshots_only=True)
        return way.versions[0] if way else None

    def part(self, layout: Layout, order: OrderTraining) -> Part:
        """Where the update belongs that answers this order."""
        return part_of(layout, self._dropout.draw(order.round, order.place))
