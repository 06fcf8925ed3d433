import pytest

from muster_coordinator.compression import PRESETS, TYPES, Codecs, codecs_of
from muster_spec.schemas import schema_of
from muster_spec.strategy_types import Codec, Compression, Pipeline
from muster_spec.support import support
from muster_wire.codecs import CodecId


@pytest.mark.parametrize(("preset", "codec"), [("none", CodecId.FLOAT32), ("light", CodecId.FLOAT16)])
def test_presets_choose_both_ways(preset: str, codec: CodecId) -> None:
    assert codecs_of(Compression(preset=preset)) == Codecs(up=codec, down=codec)


def test_pipelines_choose_each_way() -> None:
    half = Pipeline(codecs=(Codec(type="Float16"),))
    assert codecs_of(Compression(up=half)) == Codecs(up=CodecId.FLOAT16, down=CodecId.FLOAT32)
    assert codecs_of(Compression(down=half)) == Codecs(up=CodecId.FLOAT32, down=CodecId.FLOAT16)


def test_what_is_not_refused_is_there() -> None:
    compression = schema_of("FederatedJob")["properties"]["spec"]["properties"]["compression"]["properties"]
    types = compression["up"]["properties"]["codecs"]["items"]["properties"]["type"]["enum"]
    refused = {entry.path: set(entry.values) for entry in support().unsupported}
    assert set(compression["preset"]["enum"]) - refused["job.spec.compression.preset"] == set(PRESETS)
    assert set(types) - refused["job.spec.compression.up.codecs[].type"] == set(TYPES)
    assert set(types) - refused["job.spec.compression.down.codecs[].type"] == set(TYPES)
