"""Small models go along with the orders that are about them, which spares their workers a call.

What goes along is what Fetch would answer. Nothing depends on it: a worker that has missed the frames, or can't use
them, fetches. For the server's loop.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from muster_coordinator.broadcast import Broadcasts, frames_of
from muster_wire.frames import delimited
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.version import CHAINS, Version

_KEPT: Final = 4
_TAG: Final = b"\x4a"  # of Orders.frames, field 9


@dataclass(frozen=True, slots=True)
class Enclosure:
    """The version that frames lead to, and the frames as they stand at the end of serialized orders."""

    digest: str = ""
    frames: bytes = b""


NOTHING: Final = Enclosure()


class Enclosures:
    """What goes along with orders: made once, for all workers that hold the same."""

    def __init__(self, broadcasts: Broadcasts, most_bytes: int) -> None:
        self._broadcasts = broadcasts
        self._most_bytes = most_bytes
        self._made: OrderedDict[tuple[str, str], Enclosure] = OrderedDict()

    def of(self, orders: pb.Orders, given: str, version: Version) -> Enclosure:
        """For a worker of this wire version whose stream has brought the version `given`, or none."""
        wanted = {digest for assignment in orders.assignments if (digest := _model_of(assignment))}
        if version < CHAINS or len(wanted) != 1 or given in wanted:
            return NOTHING
        way = (wanted.pop(), given)
        if way not in self._made:
            self._made[way] = self._make(*way)
            if len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return self._made[way]

    def _make(self, wanted: str, given: str) -> Enclosure:
        way = self._broadcasts.way(wanted, given)
        if way is None or way.is_plain or sum(version.size for version in way.versions) > self._most_bytes:
            return NOTHING
        frames = b"".join(delimited(_TAG, frame) for frame in frames_of(way.versions, pb.FetchRequest(digest=wanted)))
        return Enclosure(wanted, frames) if len(frames) <= self._most_bytes else NOTHING


def _model_of(assignment: pb.Assignment) -> str:
    """The version that is worked with, if there is one."""
    match assignment.WhichOneof("work"):
        case "train":
            return str(assignment.train.base)
        case "evaluate":
            return str(assignment.evaluate.model)
        case _:
            return ""
