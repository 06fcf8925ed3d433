"""Makes the next version of what clients decode: from a snapshot, or by a change of the version before.

A version is a payload and the *reference* that it leads to: to the bit, what every client has after decoding. A change
is encoded from what the reference lacks of the model, so what one change leaves out or rounds away is in the next:
error feedback at the server, with no state but the reference. Random rounding draws from the job's seed and the round,
so a version that is made again is the same one.

References lie in mapped files without a name: they are page cache, and no memory of this process's own.
"""

from __future__ import annotations

import logging
import mmap
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from muster_coordinator.compression import Down
from muster_coordinator.models import views
from muster_wire.codecs import Pipeline, Random
from muster_wire.errors import PayloadError
from muster_wire.layout import Layout
from muster_wire.payload import PayloadKind, Shape, advance, decode, decode_over, encode_snapshot, encode_update
from muster_wire.selection import choose
from muster_wire.values import Values, difference

log = logging.getLogger("muster.coordinator")

_DOWN: Final = 0x646F776E  # sets this random stream apart from whatever else the job's seed feeds


@dataclass(frozen=True, slots=True)
class Reference:
    """What clients decode, and its digest."""

    digest: str
    values: Values


@dataclass(frozen=True, slots=True)
class Encoded:
    """A model on its way down: a snapshot, or a change."""

    payload: memoryview
    shape: Shape


@dataclass(frozen=True, slots=True)
class Encoder:
    """How this job's models become bytes."""

    folder: Path  # for files without a name
    down: Down
    seed: int

    def snapshot(self, model: Values, number: int) -> Encoded:
        """A whole model; as float32 where the codec can't say it."""
        pipeline = self.down.snapshot
        try:
            payload = encode_snapshot(model, pipeline, self._random(number))
        except PayloadError as error:
            log.warning("this model goes out as float32: %s", error)
            pipeline = Pipeline()
            payload = encode_snapshot(model, pipeline)
        return Encoded(payload, Shape(model.layout, PayloadKind.SNAPSHOT, pipeline))

    def change(self, model: Values, base: Values, number: int) -> Encoded | None:
        """What the base lacks of the model. None where that can't be said: a snapshot is due."""
        recipe = self.down.delta
        if recipe is None or base.layout != model.layout:
            return None
        rng = self._random(number)
        choice = replace(recipe.choice, share=recipe.share(number - 1))
        lacking = difference(model, base)
        lacking = replace(lacking, trainable=choose(lacking.trainable, model.layout, choice, rng))
        try:
            payload = encode_update(lacking, recipe.pipeline, rng)
        except PayloadError as error:
            log.warning("the change to this model can't be encoded: %s", error)
            return None
        return Encoded(payload, Shape(model.layout, PayloadKind.UPDATE, recipe.pipeline))

    def decoded(self, encoded: Encoded, base: Values | None) -> Reference:
        """What clients have after this one, in a file of its own. PayloadError for bytes that aren't what they seem."""
        values = _room(self.folder, encoded.shape.layout)
        if encoded.shape.kind is PayloadKind.SNAPSHOT:
            decode_over(encoded.shape, encoded.payload, values)
        elif base is not None:
            for mine, theirs in zip(values.buffers, base.buffers, strict=True):
                mine[...] = theirs
            advance(encoded.shape, encoded.payload, values)
        else:
            raise ValueError("a change is decoded onto the version before it")
        return Reference(values.digest(), values.sealed())

    def _random(self, number: int) -> Random:
        return np.random.default_rng((self.seed, number, _DOWN))


def digest_of(encoded: Encoded) -> str:
    """Of what a snapshot decodes to."""
    return decode(encoded.shape, encoded.payload).digest()


def mapped(folder: Path, data: memoryview) -> memoryview:
    """The same bytes, in a file that has no name and that the kernel may write out and drop from memory."""
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        written = 0
        while written < len(data):
            written += os.write(file.fileno(), data[written:])
        return memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))


def _room(folder: Path, layout: Layout) -> Values:
    """Room for a model, in such a file too."""
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        os.ftruncate(file.fileno(), max(layout.model_bytes, 1))
        data = mmap.mmap(file.fileno(), 0)
    return views(layout, data)
