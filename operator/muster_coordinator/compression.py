"""Which codec carries models down and updates up, as the job's `compression` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from muster_spec import types as spec
from muster_spec.strategy_types import Pipeline
from muster_wire.codecs import CodecId

PRESETS: Final = {"none": CodecId.FLOAT32, "light": CodecId.FLOAT16}
TYPES: Final = {"Float32": CodecId.FLOAT32, "Float16": CodecId.FLOAT16}


@dataclass(frozen=True, slots=True)
class Codecs:
    """One for each direction."""

    up: CodecId
    down: CodecId


def codecs_of(compression: spec.Compression) -> Codecs:
    """A preset, or what `up` and `down` name; a direction that is not named travels as it is."""
    if compression.preset is not None:
        both = PRESETS[compression.preset]
        return Codecs(both, both)
    return Codecs(_codec(compression.up), _codec(compression.down))


def _codec(pipeline: Pipeline | None) -> CodecId:
    """The manifest's checks leave pipelines of one codec."""
    return TYPES[pipeline.codecs[-1].type] if pipeline and pipeline.codecs else CodecId.FLOAT32
