"""What a client does with an update before it is bytes, and what it remembers of it afterwards.

::

    update + memory ─► correct ─► choose (top-k) ─► encode ─► payload
                          └────────── minus what was decoded ─► the next memory

Error feedback: what encoding left out or rounded away is added to the client's next update, so nothing is lost, only
late. Momentum correction and momentum factor masking are Deep Gradient Compression's (Lin et al. 2018, sections 3.2 and
3.3): momentum runs on what was trained, before anything is left out, and stops where a value was sent.

With u momentum, v what waits to be sent, g the update and m the factor:

    u ← m u + g        v ← v + u        send Q(v) where |v| is among the largest        v ← v − Q(v)        u ← 0 there

Memory is a value, and `encode` returns the next one beside the payload. A client keeps both until it hears whether the
update was used; then it keeps the next, or else the one before (promise 6 of the design). Nothing in it counts
rounds: a client that is left out for a hundred of them goes on with its tenth participation where the ninth ended.
Lossy stages touch trainable tensors only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from muster_wire import payload
from muster_wire.codecs import Pipeline, Random
from muster_wire.errors import LayoutError
from muster_wire.payload import PayloadKind, Shape
from muster_wire.pieces import Pieces
from muster_wire.selection import EVERYTHING, Choice, choose
from muster_wire.values import Floats, Values

MAX_PARTICIPATIONS: Final = 2**53
_ENCODING: Final = 0x6D7573746572  # sets this stream apart from whatever else a seed feeds


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an update becomes bytes. A reader only needs the pipeline. ValueError for what can't work."""

    pipeline: Pipeline
    choice: Choice = EVERYTHING
    momentum: float = 0.0
    warm_up: int = 0  # participations over which the share falls to its value
    error_feedback: bool = False
    probe: float = 0.0  # a smaller share, whose effect is compared with that of the share sent (adaptive.py); 0: none

    def __post_init__(self) -> None:
        if self.choice.share < 1 and not self.pipeline.sparse:
            raise ValueError("top-k leaves values out: its pipeline has to be sparse")
        if self.momentum and not self.error_feedback:
            raise ValueError("momentum correction works on what error feedback remembers: switch that on")
        if not 0 <= self.momentum < 1 or self.warm_up < 0:
            raise ValueError("momentum is from 0 to below 1, and a warm-up has no negative length")
        if not 0 <= self.probe < 1 or (self.probe and not self.probe < self.choice.share):
            raise ValueError(f"a probe is a share below the one that is sent: not {self.probe:g}")

    @property
    def remembers(self) -> bool:
        """Whether an update depends on what the client did before."""
        return self.error_feedback or self.warm_up > 0

    def share(self, participations: int) -> float:
        """Of the values, what is sent by a client that took part this often before.

        It falls exponentially from share^(1/(W+1)) to the share itself: with W = 4 and a share of 0.1 %, the 25 %,
        6.3 %, 1.6 %, 0.4 %, 0.1 % of Deep Gradient Compression (section 3.3, warm-up training; theirs are epochs).
        """
        taken = min(participations, self.warm_up) + 1
        return float(self.choice.share ** (taken / (self.warm_up + 1)))


_PLAIN: Final = Recipe(Pipeline())


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """What one client remembers between its updates. Empty arrays stand for zeros."""

    residual: Floats
    momentum: Floats
    participations: int = 0

    @classmethod
    def empty(cls, participations: int = 0) -> Memory:
        """Of a client that never took part, or lost what it knew after so many participations."""
        return cls(np.zeros(0, np.float32), np.zeros(0, np.float32), participations)

    @property
    def is_empty(self) -> bool:
        return not self.participations

    def after_another(self, before: Memory, after: Memory) -> Memory:
        """What this one becomes if another update of the same client, made meanwhile, was used as well.

        That one took the client from `before` to `after`, so that the same leftovers may have been sent twice. Only
        differences are added here: what was sent and what is left still make up all that was trained.
        """
        residual = _difference(_sum(self.residual, after.residual), before.residual)
        return Memory(residual, self.momentum, self.participations + after.participations - before.participations)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Flat arrays for a safetensors file."""
        count = np.array([self.participations], np.int64)
        return {"residual": self.residual, "momentum": self.momentum, "participations": count}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], size: int) -> Memory:
        """Reads `arrays` back for a model with `size` trainable values; LayoutError if that isn't what they are."""
        if arrays.keys() != {"residual", "momentum", "participations"}:
            raise LayoutError(f"a codec's memory is residual, momentum and participations, not {sorted(arrays)[:5]}")
        count = arrays["participations"]
        if count.dtype != np.int64 or count.shape != (1,) or not 0 <= count[0] <= MAX_PARTICIPATIONS:
            raise LayoutError("a codec's memory: participations is one number that isn't negative")
        for name in ("residual", "momentum"):
            _check(name, arrays[name], size)
        return cls(arrays["residual"], arrays["momentum"], int(count[0]))


@dataclass(frozen=True, slots=True)
class Encoded:
    """An update on its way, what the other side will make of it, and the memory to keep if it is used."""

    payload: (
        memoryview | Pieces
    )  # in pieces where the update's own numbers are what travels: they must stay as they are
    decoded: Values
    memory: Memory

    def fewer(self, share: float) -> Values:
        """What the other side would have made of it, had only this smaller share of the values been sent."""
        # No random numbers: the choice is exact, and what was sent does not depend on who asks.
        kept = choose(self.decoded.trainable, self.decoded.layout, Choice(share), np.random.default_rng(0))
        return replace(self.decoded, trainable=kept)


def random_of(seed: int) -> Random:
    """The random stream that encodes one assignment's update: the same whenever, and by whomever, it is done again."""
    return np.random.default_rng((seed, _ENCODING))


def encode_by(seed: int, update: Values, recipe: Recipe, memory: Memory) -> Encoded:
    """An assignment's update, by its seed. Errors as `encode` raises them."""
    if recipe == _PLAIN:  # most recipes are, and draw nothing: a random stream would take as long to make as the rest
        return Encoded(
            payload.update_in_place(update), update, replace(memory, participations=memory.participations + 1)
        )
    return encode(update, recipe, memory, random_of(seed))


def encode(update: Values, recipe: Recipe, memory: Memory, rng: Random) -> Encoded:
    """PayloadError if the update can't be said, or isn't finite; LayoutError for the memory of another model."""
    momentum, wanted = _correct(update.trainable, recipe, memory)
    choice = replace(recipe.choice, share=recipe.share(memory.participations))
    sent = replace(update, trainable=choose(wanted, update.layout, choice, rng))
    encoded = payload.encode_update(sent, recipe.pipeline, rng)
    is_exact = recipe.pipeline.codec.exact and not recipe.remembers
    decoded = sent if is_exact else _decoded(sent, recipe.pipeline, encoded)
    if not recipe.error_feedback:
        return Encoded(encoded, decoded, Memory(memory.residual, memory.momentum, memory.participations + 1))
    residual = wanted - decoded.trainable  # before the masking: momentum may be the same array as what waited
    if momentum.size:
        momentum[sent.trainable != 0] = 0
    return Encoded(encoded, decoded, Memory(residual, momentum, memory.participations + 1))


def _correct(update: Floats, recipe: Recipe, memory: Memory) -> tuple[Floats, Floats]:
    """The next momentum, before masking, and all that waits to be sent. Neither is anybody else's array to write to."""
    if not recipe.error_feedback:
        return memory.momentum, update
    _check("residual", memory.residual, update.size)
    _check("momentum", memory.momentum, update.size)
    momentum = np.zeros(0, np.float32)
    if recipe.momentum:
        momentum = np.float32(recipe.momentum) * memory.momentum + update if memory.momentum.size else update.copy()
        update = momentum
    return momentum, update + memory.residual if memory.residual.size else update


def _decoded(sent: Values, pipeline: Pipeline, encoded: memoryview) -> Values:
    return payload.decode(Shape(sent.layout, PayloadKind.UPDATE, pipeline), encoded)


def _sum(one: Floats, other: Floats) -> Floats:
    """Where an empty array stands for zeros."""
    return one + other if one.size and other.size else one if one.size else other


def _difference(one: Floats, other: Floats) -> Floats:
    return _sum(one, -other)


def _check(name: str, array: NDArray[Any], size: int) -> None:
    if array.dtype != np.float32 or array.shape not in ((0,), (size,)) or not np.isfinite(array).all():
        raise LayoutError(f"a codec's memory: {name} is not {size} finite float32 values: it is of another model")
