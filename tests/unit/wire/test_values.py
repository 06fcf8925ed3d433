from __future__ import annotations

import numpy as np
import pytest

from muster_wire.errors import LayoutError
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.values import Values, difference

LAYOUT = Layout(
    (
        TensorSpec("weight", (2, 2), "float32", Kind.TRAINABLE),
        TensorSpec("mean", (2,), "float32", Kind.FLOAT_BUFFER),
        TensorSpec("bias", (1,), "float16", Kind.TRAINABLE),
        TensorSpec("count", (), "int64", Kind.INTEGER_BUFFER),
        TensorSpec("backbone", (1,), "float32", Kind.FROZEN),
    )
)
ARRAYS = {
    "weight": np.array([[1, 2], [3, 4]], np.float32),
    "mean": np.array([5, 6], np.float64),
    "bias": np.array([7], np.float16),
    "count": np.array(8, np.int32),
    "backbone": np.array([9], np.float32),
}


def test_gather_converts_into_flat_buffers_and_tensors_gives_them_back() -> None:
    values = Values.gather(LAYOUT, ARRAYS)
    assert values.trainable.tolist() == [1, 2, 3, 4, 7]
    assert values.float_buffers.tolist() == [5, 6]
    assert values.integers.tolist() == [8]
    assert values.frozen.tolist() == [9]
    for spec, view in values.tensors():
        np.testing.assert_array_equal(view, ARRAYS[spec.name])
        assert view.base is not None


def test_gather_names_what_does_not_fit() -> None:
    with pytest.raises(LayoutError, match="bias: the layout has this tensor and the model hasn't"):
        Values.gather(LAYOUT, {name: array for name, array in ARRAYS.items() if name != "bias"})
    with pytest.raises(LayoutError, match=r"mean: the model has shape \(3,\)"):
        Values.gather(LAYOUT, ARRAYS | {"mean": np.zeros(3)})


def test_an_update_has_differences_absolute_integers_and_nothing_frozen() -> None:
    base = Values.gather(LAYOUT, ARRAYS)
    local = Values.gather(LAYOUT, {name: array + 1 for name, array in ARRAYS.items()})
    update = difference(local, base)
    assert update.trainable.tolist() == [1] * 5
    assert update.float_buffers.tolist() == [1, 1]
    assert update.integers.tolist() == [9]
    assert update.frozen.size == 0
    assert [spec.name for spec, _ in update.tensors()] == ["weight", "mean", "bias", "count"]


def test_difference_needs_one_layout() -> None:
    with pytest.raises(LayoutError, match="different layouts"):
        difference(Values.zeros(LAYOUT), Values.zeros(Layout(())))


def test_the_digest_names_layout_and_every_buffer() -> None:
    values = Values.gather(LAYOUT, ARRAYS)
    assert values.digest() == Values.gather(LAYOUT, ARRAYS).digest()
    digests = {values.digest(), Values.zeros(Layout(())).digest()}
    for name, array in ARRAYS.items():
        digests.add(Values.gather(LAYOUT, ARRAYS | {name: array + 1}).digest())
    assert len(digests) == 2 + len(ARRAYS)


def test_sealed_values_share_memory_and_refuse_writes() -> None:
    values = Values.gather(LAYOUT, ARRAYS)
    sealed = values.sealed()
    values.trainable[0] = 42
    assert sealed.trainable[0] == 42
    with pytest.raises(ValueError, match="read-only"):
        sealed.trainable[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        next(view for _, view in sealed.tensors())[0] = 0


@pytest.mark.parametrize(
    "wrong",
    [np.zeros(4, np.float32), np.zeros(5, np.float64), np.zeros((5, 1), np.float32), np.zeros(10, np.float32)[::2]],
)
def test_a_buffer_that_does_not_fit_is_refused(wrong: np.ndarray) -> None:
    good = Values.zeros(LAYOUT)
    with pytest.raises(LayoutError, match="trainable: the layout wants 5 contiguous values of float32"):
        Values(LAYOUT, wrong, good.float_buffers, good.integers, good.frozen)
