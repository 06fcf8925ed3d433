from __future__ import annotations

from typing import Any

import pytest

from muster_coordinator.compression import NUMBERS, Codecs, codecs_of
from muster_coordinator.instructions import OrderTraining
from muster_coordinator.orders import Notice
from muster_coordinator.records import AssignmentId
from muster_coordinator.translate import Told, orders_of
from muster_spec import load
from muster_spec.clients import ClientId
from muster_spec.documents import Document
from muster_spec.resolving import resolve
from muster_spec.schemas import API_VERSION, schema_of
from muster_spec.strategy_types import Codec, Compression
from muster_spec.strategy_types import Pipeline as Stages
from muster_spec.support import support
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
    assert codecs_of(compression_of(preset=preset)) == Codecs(Recipe(pipeline), pipeline)


def test_pipelines_choose_each_way() -> None:
    half = Stages(codecs=(Codec(type="Float16"),))
    plain, halves = Pipeline(), Pipeline(CodecId.FLOAT16)
    assert codecs_of(Compression(up=half)) == Codecs(Recipe(halves), plain)
    assert codecs_of(Compression(down=half)) == Codecs(Recipe(plain), halves)


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
    return orders_of(notice, Told(lambda digest: digest, recipe), 0.0).assignments[0].train


def test_workers_must_know_every_stage() -> None:
    codecs = Codecs(Recipe(Pipeline(CodecId.INT8, sparse=True), EVERYTHING), Pipeline(CodecId.FLOAT16, lossless=True))
    assert codecs.stages == {CodecId.INT8, CodecId.SPARSE, CodecId.FLOAT16, CodecId.LOSSLESS}


def test_what_is_not_refused_is_there() -> None:
    compression = schema_of("FederatedJob")["properties"]["spec"]["properties"]["compression"]["properties"]
    types = set(compression["up"]["properties"]["codecs"]["items"]["properties"]["type"]["enum"])
    refused = {entry.path: set(entry.values) for entry in support().unsupported}
    presets = set(compression["preset"]["enum"]) - refused["job.spec.compression.preset"]
    assert all(PRESETS[preset].delta is None for preset in presets)
    assert types - refused["job.spec.compression.up.codecs[].type"] == set(NUMBERS) | {"TopK", "Lossless"}
    assert types - refused["job.spec.compression.down.codecs[].type"] == {"Float32", "Float16"}
