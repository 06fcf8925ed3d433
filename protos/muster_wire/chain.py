"""How a client gets from the version it holds to the newest: by deltas, or by a snapshot and the deltas after it.

The coordinator keeps one reference: what clients decode. A *keyframe* sets it anew, from a snapshot; every version
after it is the one before plus a delta, which says what the reference lacks of the model, so that what a delta rounds
away is in the next one. Everybody therefore reaches the same reference, by whichever way, and one digest proves it.
Where the deltas since the keyframe have grown larger than the reference itself, that one is sent as it is.

Two decisions, both pure: which way is smallest for a client, and when a new keyframe costs all clients less than going
on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

MAX_DELTAS: Final = 256  # that a way may have: beyond, a new keyframe
MAX_TRANSFERS: Final = 4096  # on one way, that a client follows
MOST_MODELS: Final = 16  # in float32, of disk that a chain may take before its next keyframe


class Start(Enum):
    """What a way begins with."""

    HELD = "held"  # the version that the client has
    KEYFRAME = "keyframe"  # the snapshot of the keyframe
    PLAIN = "plain"  # the newest version as it decodes, in float32


@dataclass(frozen=True, slots=True)
class Chain:
    """What is kept: a snapshot of the keyframe, and a delta to each version after it. Sizes in bytes."""

    keyframe: int
    snapshot: int
    deltas: Mapping[int, int]  # by version; from keyframe + 1 on, without gaps
    plain: int  # any version in float32

    @property
    def newest(self) -> int:
        return self.keyframe + len(self.deltas)


@dataclass(frozen=True, slots=True)
class Route:
    """What to fetch, in this order; `size` is what it costs."""

    start: Start
    deltas: tuple[int, ...]  # versions to advance to, one after the other
    size: int


@dataclass(frozen=True, slots=True)
class Audience:
    """Who is expected to fetch the next version."""

    held: Mapping[int, int] = field(default_factory=dict)  # clients by the version they hold
    newcomers: float = 0.0  # that hold none


def route(chain: Chain, held: int | None) -> Route:
    """The smallest way to the newest version for a client that holds a version, or none that is known here."""
    whole = _deltas(Start.KEYFRAME, chain, chain.keyframe, chain.snapshot)
    ways = [whole, Route(Start.PLAIN, (), chain.plain)]
    if held is not None and chain.keyframe <= held <= chain.newest:
        ways.insert(0, _deltas(Start.HELD, chain, held, 0))
    return min(ways, key=lambda way: way.size)


def wants_keyframe(chain: Chain, snapshot: int, delta: int, audience: Audience) -> bool:
    """Whether the next version should be a keyframe of `snapshot` bytes rather than a delta of `delta` bytes.

    A keyframe costs everybody who is expected a snapshot; going on costs each its way through the chain.
    """
    longer = Chain(chain.keyframe, chain.snapshot, {**chain.deltas, chain.newest + 1: delta}, chain.plain)
    if len(longer.deltas) > MAX_DELTAS or sum(longer.deltas.values()) > MOST_MODELS * chain.plain:
        return True
    known = sum(count * route(longer, version).size for version, count in audience.held.items())
    going_on = known + audience.newcomers * route(longer, None).size
    return (sum(audience.held.values()) + audience.newcomers) * snapshot < going_on


def _deltas(start: Start, chain: Chain, version: int, size: int) -> Route:
    versions = tuple(range(version + 1, chain.newest + 1))
    return Route(start, versions, size + sum(chain.deltas[each] for each in versions))
