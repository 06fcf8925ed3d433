"""What carries models down and updates up, as the job's `compression` says it: a preset, or stages one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from muster_spec import types as spec
from muster_spec.strategy_types import Codec, TopK
from muster_spec.strategy_types import Pipeline as Stages
from muster_wire.codecs import CodecId, Pipeline
from muster_wire.feedback import Recipe
from muster_wire.presets import PRESETS
from muster_wire.selection import EVERYTHING, Choice

NUMBERS: Final = {
    "Float32": CodecId.FLOAT32,
    "Float16": CodecId.FLOAT16,
    "BFloat16": CodecId.BFLOAT16,
    "Int8": CodecId.INT8,
    "Int4": CodecId.INT4,
    "OneBit": CodecId.ONE_BIT,
}
# These leave so much out that a client has to remember it, unless the manifest says otherwise.
NEED_FEEDBACK: Final = frozenset({"TopK", "Int4", "OneBit"})


@dataclass(frozen=True, slots=True)
class Codecs:
    """One for each direction."""

    up: Recipe
    down: Pipeline

    @property
    def stages(self) -> frozenset[CodecId]:
        """What a worker has to know."""
        return self.up.pipeline.stages | self.down.stages


def codecs_of(compression: spec.Compression) -> Codecs:
    """A preset, or what `up` and `down` name; a direction that is not named travels as it is."""
    if compression.preset is not None:
        preset = PRESETS[compression.preset]
        return Codecs(preset.up, preset.snapshot)
    up, down = compression.up, compression.down
    return Codecs(recipe_of(up) if up else Recipe(Pipeline()), pipeline_of(down) if down else Pipeline())


def recipe_of(stages: Stages) -> Recipe:
    """What a client does with an update."""
    top = next((stage.top_k for stage in stages.codecs if stage.top_k), None)
    wanted = any(stage.type in NEED_FEEDBACK for stage in stages.codecs)
    return Recipe(
        pipeline_of(stages),
        _choice(top) if top else EVERYTHING,
        momentum=top.momentum if top else 0.0,
        warm_up=top.warm_up_rounds if top else 0,
        error_feedback=wanted if stages.error_feedback is None else stages.error_feedback,
    )


def pipeline_of(stages: Stages) -> Pipeline:
    """The same for whoever reads. The manifest's checks leave each stage once, and in the one order there is."""
    types = {stage.type for stage in stages.codecs}
    numbers = next((stage for stage in stages.codecs if stage.type in NUMBERS), None)
    return Pipeline(
        NUMBERS[numbers.type] if numbers else CodecId.FLOAT32,
        sparse="TopK" in types,
        lossless="Lossless" in types,
        block=_block(numbers) if numbers else 0,
    )


def _choice(top: TopK) -> Choice:
    return Choice(top.share, per_tensor=top.scope == "Tensor", sampled=top.threshold == "Sampled")


def _block(stage: Codec) -> int:
    blocks = stage.int8 or stage.int4
    return blocks.block_size if blocks else 0
