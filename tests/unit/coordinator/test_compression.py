from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from muster_coordinator.compression import NUMBERS, Codecs, Down, codecs_of, parts_text
from muster_coordinator.instructions import OrderTraining
from muster_coordinator.orders import Notice
from muster_coordinator.records import AssignmentId, Uplink
from muster_coordinator.translate import Told, orders_of
from muster_coordinator.uplink import UPLINKS
from muster_spec import load
from muster_spec.clients import ClientId
from muster_spec.documents import Document
from muster_spec.resolving import resolve
from muster_spec.schemas import API_VERSION, schema_of
from muster_spec.strategy_types import Codec, Compression, FederatedDropout
from muster_spec.strategy_types import Pipeline as Stages
from muster_spec.support import support
from muster_wire.adaptive import Search
from muster_wire.codecs import CodecId, Pipeline
from muster_wire.feedback import Recipe
from muster_wire.messages import recipe_from
from muster_wire.presets import PRESETS
from muster_wire.selection import EVERYTHING, Choice
from muster_wire.v1 import federation_pb2 as pb

TOP = {"share": 0.02, "scope": "Tensor", "threshold": "Sampled", "momentum": 0.5, "warmUpRounds": 3}


def compression_of(**compression: Any) -> Compression:
    """As the coordinator gets it from a manifest, defaults and all."""
    spec = {
        "task": {"entrypoint": "a:B"},
        "pools": [{"name": "site", "inline": {"type": "Kubernetes", "clients": 3}}],
        "compression": compression,
    }
    document = {"apiVersion": API_VERSION, "kind": "FederatedJob", "metadata": {"name": "one"}, "spec": spec}
    return resolve(load([Document(document)])).spec.compression


def up(*stages: str | dict[str, Any], **others: Any) -> Recipe:
    codecs = [{"type": stage} if isinstance(stage, str) else stage for stage in stages]
    return codecs_of(compression_of(up={"codecs": codecs, **others})).up


@pytest.mark.parametrize(
    ("preset", "pipeline"),
    [("none", Pipeline(CodecId.FLOAT32)), ("light", Pipeline(CodecId.FLOAT16, lossless=True))],
)
def test_presets_choose_both_ways(preset: str, pipeline: Pipeline) -> None:
    assert codecs_of(compression_of(preset=preset)) == Codecs(Recipe(pipeline), Down(pipeline))


def test_pipelines_choose_each_way() -> None:
    half = Stages(codecs=(Codec(type="Float16"),))
    plain, halves = Pipeline(), Pipeline(CodecId.FLOAT16)
    assert codecs_of(Compression(up=half)) == Codecs(Recipe(halves), Down(plain))
    assert codecs_of(Compression(down=half)) == Codecs(Recipe(plain), Down(halves))


def test_auto_has_an_uplink_for_each_line_and_the_downlink_of_balanced() -> None:
    codecs, balanced = codecs_of(compression_of(preset="auto")), PRESETS["balanced"]
    assert codecs == Codecs(balanced.up, Down(balanced.snapshot, balanced.delta), UPLINKS)
    assert codecs.stages >= {CodecId.FLOAT16, CodecId.SPARSE, CodecId.INT4, CodecId.INT8, CodecId.LOSSLESS}
    assert codecs.text.startswith("up by each client's bandwidth (light, balanced, max), down int8+lossless snapshots")


@pytest.mark.parametrize("preset", ["balanced", "max"])
def test_presets_send_changes_down(preset: str) -> None:
    codecs, meant = codecs_of(compression_of(preset=preset)), PRESETS[preset]
    assert codecs == Codecs(meant.up, Down(meant.snapshot, meant.delta))
    assert codecs_of(compression_of(preset=preset, deltas=False)).down == Down(meant.snapshot)


def down(*stages: str | dict[str, Any], deltas: bool | None = None, **others: Any) -> Down:
    codecs = [{"type": stage} if isinstance(stage, str) else stage for stage in stages]
    whether = {} if deltas is None else {"deltas": deltas}
    return codecs_of(compression_of(down={"codecs": codecs, **others}, **whether)).down


INT8, INT4, HALF = Pipeline(CodecId.INT8), Pipeline(CodecId.INT4), Pipeline(CodecId.FLOAT16)


@pytest.mark.parametrize(
    ("given", "others", "expected"),
    [
        (["Float16"], {}, Down(HALF)),
        (["Int8"], {}, Down(INT8)),
        (["Int8"], {"deltas": True}, Down(INT8, Recipe(INT8))),
        (["Int8"], {"errorFeedback": True}, Down(INT8, Recipe(INT8))),
        (["Int4"], {}, Down(INT8, Recipe(INT4))),  # what this coarse codec rounds away must not be lost
        (["Int4"], {"deltas": False}, Down(INT4)),
        (["Int4"], {"errorFeedback": False}, Down(INT4)),
        (
            ["OneBit", "Lossless"],
            {},
            Down(replace(INT8, lossless=True), Recipe(Pipeline(CodecId.ONE_BIT, False, True))),
        ),
        (["Float32"], {"deltas": True}, Down(Pipeline(), Recipe(Pipeline()))),
    ],
)
def test_when_changes_come_down(given: list[str], others: dict[str, bool], expected: Down) -> None:
    assert down(*given, **others) == expected


def test_every_field_of_top_k_down_is_in_the_recipe() -> None:
    top = {key: value for key, value in TOP.items() if key != "momentum"}
    blocks = {"type": "Int8", "int8": {"blockSize": 128}}
    numbers = Pipeline(CodecId.INT8, block=128)
    assert down({"type": "TopK", "topK": top}, blocks) == Down(
        numbers, Recipe(replace(numbers, sparse=True), Choice(0.02, per_tensor=True, sampled=True), warm_up=3)
    )
    small = {"type": "Int4", "int4": {"blockSize": 32}}
    assert down("TopK", small).delta == Recipe(Pipeline(CodecId.INT4, True, block=32), Choice(0.01), warm_up=4)


def test_an_adaptive_share_is_searched_between_its_bounds() -> None:
    stage = {"type": "AdaptiveTopK", "adaptiveTopK": {"minShare": 0.01, "maxShare": 0.25}}
    codecs = codecs_of(compression_of(up={"codecs": [stage, {"type": "Int8"}]}))
    assert codecs.search == Search.start(0.01, 0.25)
    assert codecs.text == "up top-k 1% to 25%+int8, down float32"
    recipe = codecs.recipe(Uplink(share=0.04, probe=0.03))
    numbers = Pipeline(CodecId.INT8, sparse=True, block=256)
    assert recipe == Recipe(numbers, Choice(0.04), error_feedback=True, probe=0.03)
    assert recipe_from(train_message(recipe).recipe) == recipe


def test_a_pipeline_is_said_in_words() -> None:
    assert codecs_of(compression_of(preset="max")).text == (
        "up one_bit, down int8+lossless snapshots and top-k 4%+int4+lossless deltas"
    )
    assert codecs_of(compression_of(preset="none")).text == "up float32, down float32"
    assert parts_text(None) == ""
    assert parts_text(FederatedDropout(keep=0.5, masks=4)) == ", sub-models of 50%"


@pytest.mark.parametrize(
    ("stages", "pipeline"),
    [
        (["BFloat16"], Pipeline(CodecId.BFLOAT16)),
        (["Lossless"], Pipeline(lossless=True)),
        (["Int8"], Pipeline(CodecId.INT8, block=256)),
        ([{"type": "Int8", "int8": {"blockSize": 100}}, "Lossless"], Pipeline(CodecId.INT8, lossless=True, block=100)),
        ([{"type": "Int4", "int4": {"blockSize": 32}}], Pipeline(CodecId.INT4, block=32)),
        (["OneBit"], Pipeline(CodecId.ONE_BIT)),
        (["TopK"], Pipeline(sparse=True)),
        (["TopK", "Float16", "Lossless"], Pipeline(CodecId.FLOAT16, sparse=True, lossless=True)),
    ],
)
def test_stages_become_a_pipeline(stages: list[Any], pipeline: Pipeline) -> None:
    assert up(*stages).pipeline == pipeline


def test_every_field_of_top_k_is_in_the_recipe() -> None:
    recipe = up({"type": "TopK", "topK": TOP}, "Int8")
    assert recipe == Recipe(
        Pipeline(CodecId.INT8, sparse=True),
        Choice(0.02, per_tensor=True, sampled=True),
        momentum=0.5,
        warm_up=3,
        error_feedback=True,
    )
    assert up("TopK") == Recipe(Pipeline(sparse=True), Choice(0.01), warm_up=4, error_feedback=True)


@pytest.mark.parametrize(
    ("stages", "asked", "there"),
    [
        (["Float32"], None, False),
        (["Float16", "Lossless"], None, False),
        (["Int8"], None, False),
        (["Int4"], None, True),
        (["OneBit"], None, True),
        (["TopK", "Float16"], None, True),
        (["Int8"], True, True),
        (["TopK"], False, False),
    ],
)
def test_error_feedback_is_on_where_it_is_needed_or_asked_for(
    stages: list[Any], asked: bool | None, there: bool
) -> None:
    others = {} if asked is None else {"errorFeedback": asked}
    assert up(*stages, **others).error_feedback is there


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(Pipeline(CodecId.INT8, block=64), error_feedback=True),
        Recipe(Pipeline(sparse=True), Choice(0.1), momentum=0.9, warm_up=2, error_feedback=True),
        Recipe(Pipeline(CodecId.INT8)),
    ],
)
def test_orders_say_the_recipe_where_the_codec_does_not_say_it_all(recipe: Recipe) -> None:
    message = train_message(recipe)
    assert message.codec == recipe.pipeline.numbers
    assert message.HasField("recipe") == (recipe != Recipe(Pipeline(CodecId.INT8)))
    assert not message.HasField("recipe") or recipe_from(message.recipe) == recipe


def train_message(recipe: Recipe) -> pb.Train:
    order = OrderTraining(ClientId("site/0"), AssignmentId("1.0.site/0"), 1, "b", 5, 10.0)
    notice = Notice(1, (order,), (), finished=False, reason="", committed=0)
    return orders_of(notice, Told(lambda digest: digest, lambda _: recipe), 0.0).assignments[0].train


def test_workers_must_know_every_stage() -> None:
    codecs = Codecs(
        Recipe(Pipeline(CodecId.INT8, sparse=True), EVERYTHING), Down(Pipeline(CodecId.FLOAT16, lossless=True))
    )
    assert codecs.stages == {CodecId.INT8, CodecId.SPARSE, CodecId.FLOAT16, CodecId.LOSSLESS}


def test_what_is_not_refused_is_there() -> None:
    compression = schema_of("FederatedJob")["properties"]["spec"]["properties"]["compression"]["properties"]
    types = set(compression["up"]["properties"]["codecs"]["items"]["properties"]["type"]["enum"])
    refused = {entry.path: set(entry.values) for entry in support().unsupported}
    assert set(compression["preset"]["enum"]) == {*PRESETS, "auto"}
    assert types == set(NUMBERS) | {"TopK", "AdaptiveTopK", "Lossless"}
    assert not {path for path in refused if ".codecs[]" in path}
