"""What carries models down and updates up, as the job's `compression` says it: a preset, or stages one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from muster_coordinator.records import Uplink
from muster_coordinator.uplink import UNKNOWN, UPLINKS
from muster_spec import types as spec
from muster_spec.strategy_types import Codec, FederatedDropout, TopK
from muster_spec.strategy_types import Pipeline as Stages
from muster_wire.adaptive import Search
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
NEED_FEEDBACK: Final = frozenset({"TopK", "AdaptiveTopK", "Int4", "OneBit"})


@dataclass(frozen=True, slots=True)
class Down:
    """How models come down: keyframes, and the changes after one. Without `delta` every version is a keyframe."""

    snapshot: Pipeline = field(default_factory=Pipeline)
    delta: Recipe | None = None

    @property
    def stages(self) -> frozenset[CodecId]:
        """What a worker has to know. A model that the codec can't say goes out as float32."""
        changes = self.delta.pipeline.stages if self.delta else frozenset[CodecId]()
        return self.snapshot.stages | changes

    @property
    def models_in_memory(self) -> int:
        """Beyond idle, while a sparse change is made: what clients lack of the model, what is chosen of it, and
        magnitudes, and then places (of 8 bytes, twice), to choose by. A float32 keyframe lies in memory beside that.
        """
        if self.delta is None or not self.delta.pipeline.sparse:
            return 3
        return 3 + math.ceil(4 * self.delta.share(0)) + self.snapshot.codec.exact


@dataclass(frozen=True, slots=True)
class Codecs:
    """One for each direction."""

    up: Recipe
    down: Down
    uplinks: Mapping[str, Recipe] = field(default_factory=dict)  # by preset, where clients get one each
    search: Search | None = None  # for the share of values that goes up, where it is learnt

    def recipe(self, uplink: Uplink) -> Recipe:
        """How an update becomes bytes: as everybody's, but for what is its own."""
        recipe = self.uplinks.get(uplink.preset, self.up)
        if not uplink.share:
            return recipe
        return replace(recipe, choice=replace(recipe.choice, share=uplink.share), probe=uplink.probe)

    @property
    def stages(self) -> frozenset[CodecId]:
        """What a worker has to know."""
        return frozenset().union(
            self.down.stages, *(each.pipeline.stages for each in (self.up, *self.uplinks.values()))
        )

    @property
    def text(self) -> str:
        """For people: `up one_bit, down int8+lossless snapshots and top-k 4%+int4+lossless deltas`."""
        down = f"down {self.down.snapshot.name}"
        if self.down.delta:
            down += f" snapshots and {_said(self.down.delta)} deltas"
        up = f"by each client's bandwidth ({', '.join(self.uplinks)})" if self.uplinks else _said(self.up, self.search)
        return f"up {up}, {down}"


def parts_text(dropout: FederatedDropout | None) -> str:
    """For people, after the pipelines: `, sub-models of 50%`."""
    return f", sub-models of {100 * dropout.keep:g}%" if dropout else ""


def codecs_of(compression: spec.Compression) -> Codecs:
    """A preset, or what `up` and `down` name; a direction that is not named travels as it is."""
    if compression.preset == "auto":
        preset = PRESETS[UNKNOWN]
        down = _with_deltas(compression.deltas, preset.snapshot, preset.delta)
        return Codecs(UPLINKS[UNKNOWN], down, UPLINKS)
    if compression.preset is not None:
        preset = PRESETS[compression.preset]
        return Codecs(preset.up, _with_deltas(compression.deltas, preset.snapshot, preset.delta))
    up = compression.up
    down = _down(compression.down, compression.deltas)
    return Codecs(recipe_of(up) if up else Recipe(Pipeline()), down, search=search_of(compression))


def search_of(compression: spec.Compression) -> Search | None:
    """How the search for the share of values begins, where updates go up by AdaptiveTopK."""
    stages = compression.up.codecs if compression.up else ()
    adaptive = next((stage.adaptive_top_k for stage in stages if stage.adaptive_top_k), None)
    return Search.start(adaptive.min_share, adaptive.max_share) if adaptive else None


def _with_deltas(wanted: bool | None, snapshot: Pipeline, delta: Recipe | None) -> Down:
    """Changes where they are usual for this preset, or asked for."""
    if wanted is None:
        return Down(snapshot, delta)
    return Down(snapshot, delta or Recipe(snapshot)) if wanted else Down(snapshot)


def _down(stages: Stages | None, deltas: bool | None) -> Down:
    """By hand: changes where they are asked for, or where what a codec leaves out must not be lost.

    A change is made against what clients hold, so the next one says what this one left out: that is error feedback. A
    keyframe is never sparse, and Int8 at least where changes are coarser.
    """
    if stages is None:
        return Down(delta=Recipe(Pipeline()) if deltas else None)
    pipeline, recipe = pipeline_of(stages), recipe_of(stages)
    wanted = next((answer for answer in (deltas, stages.error_feedback) if answer is not None), recipe.error_feedback)
    if not wanted:
        return Down(pipeline)
    is_coarse = pipeline.numbers in (CodecId.INT4, CodecId.ONE_BIT)
    numbers, block = (CodecId.INT8, 0) if is_coarse else (pipeline.numbers, pipeline.block)
    keyframe = Pipeline(numbers, lossless=pipeline.lossless, block=block)
    return Down(keyframe, Recipe(pipeline, recipe.choice, warm_up=recipe.warm_up))


def _said(recipe: Recipe, search: Search | None = None) -> str:
    rest = replace(recipe.pipeline, sparse=False).name
    if search:
        return f"top-k {100 * search.least:g}% to {100 * search.most:g}%+{rest}"
    return f"top-k {100 * recipe.choice.share:g}%+{rest}" if recipe.pipeline.sparse else rest


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
        sparse=bool(types & {"TopK", "AdaptiveTopK"}),
        lossless="Lossless" in types,
        block=_block(numbers) if numbers else 0,
    )


def _choice(top: TopK) -> Choice:
    return Choice(top.share, per_tensor=top.scope == "Tensor", sampled=top.threshold == "Sampled")


def _block(stage: Codec) -> int:
    blocks = stage.int8 or stage.int4
    return blocks.block_size if blocks else 0
