"""How a client gets from the version it holds to the newest: by deltas, or by a snapshot and the deltas after it.

The coordinator keeps one reference: what clients decode. A *keyframe* sets it anew, from a snapshot; every version
after it is the one before plus a delta, which says what the reference lacks of the model, so that what a delta rounds
away is in the next one. Everybody therefore reaches the same reference, by whichever way, and one digest proves it.

Two decisions, both pure: which way is smaller for a client, and when the chain behind the last keyframe has grown so
long that a new keyframe costs less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chain:
    """What is kept: a snapshot of the keyframe, and a delta to each version after it. Sizes in bytes."""

    keyframe: int
    snapshot: int
    deltas: Mapping[int, int]  # by version; from keyframe + 1 on, without gaps

    @property
    def newest(self) -> int:
        return self.keyframe + len(self.deltas)


@dataclass(frozen=True, slots=True)
class Route:
    """What to fetch, in this order; `size` is what it costs."""

    snapshot: int | None  # the version to begin anew from; None: from the one that is held
    deltas: tuple[int, ...]  # versions to advance to, one after the other
    size: int


def route(chain: Chain, held: int | None) -> Route:
    """The smallest way to the newest version for a client that holds a version, or none that is known here."""
    anew = Route(chain.keyframe, *_deltas(chain, chain.keyframe))
    whole = Route(anew.snapshot, anew.deltas, anew.size + chain.snapshot)
    if held is None or not chain.keyframe <= held <= chain.newest:
        return whole
    return Route(None, *_deltas(chain, held))


def wants_keyframe(chain: Chain, snapshot: int, delta: int, held: Mapping[int, int], newcomers: float) -> bool:
    """Whether the next version should be a keyframe of `snapshot` bytes rather than a delta of `delta` bytes.

    `held` counts the clients by the version they hold, and `newcomers` those that will come with none, before the chain
    could be cut again. A keyframe costs each of them a snapshot; going on costs each its way through the chain.
    """
    longer = Chain(chain.keyframe, chain.snapshot, {**chain.deltas, chain.newest + 1: delta})
    known = sum(count * route(longer, version).size for version, count in held.items())
    going_on = known + newcomers * route(longer, None).size
    return (sum(held.values()) + newcomers) * snapshot < going_on


def _deltas(chain: Chain, start: int) -> tuple[tuple[int, ...], int]:
    versions = tuple(range(start + 1, chain.newest + 1))
    return versions, sum(chain.deltas[version] for version in versions)
