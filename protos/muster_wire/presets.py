"""What `none`, `light`, `balanced` and `max` mean, in one place. Change nothing here between scored runs.

`saved` is an estimate of the bytes that a preset takes away against float32, both ways and first contacts included, for
models of at least 1 MB; benchmarks/codecs.py measures what each pipeline does alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from muster_wire.codecs import CodecId, Pipeline
from muster_wire.feedback import Recipe
from muster_wire.selection import Choice


@dataclass(frozen=True, slots=True)
class Preset:
    """Both ways. `snapshot` is for keyframes and first contacts, `delta` for what follows one; None: no deltas."""

    up: Recipe
    snapshot: Pipeline
    delta: Recipe | None
    saved: float


_FLOAT32: Final = Pipeline(CodecId.FLOAT32)
_FLOAT16: Final = Pipeline(CodecId.FLOAT16, lossless=True)
_INT8: Final = Pipeline(CodecId.INT8, lossless=True, block=256)
_INT4: Final = Pipeline(CodecId.INT4, lossless=True, block=256)
_ONE_BIT: Final = Pipeline(CodecId.ONE_BIT)
_TOP: Final = Pipeline(CodecId.INT4, sparse=True, lossless=True, block=64)

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        "none": Preset(Recipe(_FLOAT32), _FLOAT32, None, saved=0.0),
        "light": Preset(Recipe(_FLOAT16), _FLOAT16, None, saved=0.55),
        # A client that is asked every third round walks three deltas down for one update up, so deltas are the smaller.
        "balanced": Preset(Recipe(_INT4, error_feedback=True), _INT8, Recipe(_TOP, Choice(share=0.2)), saved=0.87),
        # One bit for every value carries more of an update than the few largest in half the room: in trials on
        # digits, seeds from 1000 on, the top 3 % in int4 cost three points more. Down, 4 % lost no more than 6 %.
        "max": Preset(Recipe(_ONE_BIT, error_feedback=True), _INT8, Recipe(_TOP, Choice(share=0.04)), saved=0.95),
    }
)
