"""The control variate on its way: one more tensor of a snapshot, under every codec to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from muster_wire.codecs import CodecId, Pipeline
from muster_wire.control import CONTROL, has_control, split_control, with_control
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.payload import PayloadKind, Shape, decode, encode_snapshot
from muster_wire.values import Values

PLAIN = (
    TensorSpec("w", (2, 2), "float32", Kind.TRAINABLE),
    TensorSpec("running_var", (2,), "float32", Kind.FLOAT_BUFFER),
    TensorSpec("b", (1,), "float16", Kind.TRAINABLE),
)
FROZEN = TensorSpec("backbone", (3,), "float32", Kind.FROZEN)
VARIATE = np.array([1e-7, -2.5, 3.25, 65537.0, -1e30], np.float32)


def model(*more: TensorSpec) -> Values:
    values = Values.zeros(Layout((*PLAIN, *more)))
    for number, buffer in enumerate(values.buffers):
        buffer[...] = np.arange(buffer.size) + 10 * number
    return values


@pytest.mark.parametrize("more", [(), (FROZEN,)], ids=["plain", "with frozen tensors"])
@pytest.mark.parametrize("codec", [CodecId.FLOAT32, CodecId.FLOAT16, CodecId.INT8])
def test_model_and_variate_come_apart_as_they_were(more: tuple[TensorSpec, ...], codec: CodecId) -> None:
    version = with_control(model(*more), VARIATE)
    assert has_control(version.layout)
    pipeline = Pipeline(codec, block=256 if codec is CodecId.INT8 else 0)
    shape = Shape(version.layout, PayloadKind.SNAPSHOT, pipeline)
    found, variate = split_control(decode(shape, encode_snapshot(version, pipeline)))
    assert variate is not None
    assert variate.tolist() == VARIATE.tolist()
    assert found.layout == model(*more).layout
    assert found.frozen.tolist() == model(*more).frozen.tolist()
    if codec is CodecId.FLOAT32:
        assert found.digest() == model(*more).digest()


def test_a_version_with_another_variate_has_another_name() -> None:
    digests = {with_control(model(), VARIATE * factor).digest() for factor in np.float32([1, 2])}
    assert len(digests | {model().digest()}) == 3


def test_a_model_without_one_stays_whole() -> None:
    values = model(FROZEN)
    assert split_control(values) == (values, None)
    assert not has_control(Layout(()))
    assert CONTROL not in {spec.name for spec in values.layout.tensors}
