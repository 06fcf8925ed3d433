"""Updates that are compared come back from their file as what was sent, block by block, in memory that is bounded."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from muster_coordinator import compared
from muster_coordinator.clipping import scale_of
from muster_coordinator.combining import MEAN, Combining, combining_of
from muster_coordinator.compared import Compared
from muster_coordinator.errors import StorageError
from muster_coordinator.robust import Rule
from muster_coordinator.robust.centres import CenteredClipping
from muster_coordinator.robust.coordinatewise import Median, TrimmedMean
from muster_coordinator.robust.krum import Bulyan, Krum, MultiKrum
from muster_coordinator.strategies import add
from muster_coordinator.sums import Sum
from muster_spec import strategy_types as spec
from muster_wire.codecs import CodecId, Pipeline
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.payload import MAX_NORM, PayloadKind, Shape, decode, encode_update
from muster_wire.values import Values

STEP = add


def layout_of(size: int) -> Layout:
    return Layout(
        (
            TensorSpec("weight", (size,), "float32", Kind.TRAINABLE),
            TensorSpec("variance", (3,), "float32", Kind.FLOAT_BUFFER),
            TensorSpec("count", (2,), "int64", Kind.INTEGER_BUFFER),
            TensorSpec("backbone", (2,), "float32", Kind.FROZEN),
        )
    )


def update_of(layout: Layout, seed: int) -> Values:
    rng = np.random.default_rng(seed)
    update = Values.zeros(layout, frozen=False)
    update.trainable[:] = rng.normal(0, 1, update.trainable.size)
    update.float_buffers[:] = rng.normal(0, 1, update.float_buffers.size)
    update.integers[:] = rng.integers(0, 100, update.integers.size)
    return update


def base_of(layout: Layout) -> Values:
    base = Values.zeros(layout)
    base.trainable[:], base.float_buffers[:], base.frozen[:] = 3, 50, (7, 8)
    return base


def close_round(rule: Rule, updates: list[Values], folder: Path, codec: CodecId | Pipeline = CodecId.FLOAT32) -> Values:
    layout = updates[0].layout
    rows = Compared(layout, rule, None, folder)
    for update in updates:
        rows.fold_payload(Shape(layout, PayloadKind.UPDATE, codec), encode_update(update, codec))
    return rows.finish(base_of(layout), STEP)


@pytest.mark.parametrize("size", [1, 40_001])
@pytest.mark.parametrize("rule", [Median(), TrimmedMean(0.2), Krum(2), MultiKrum(2), Bulyan(1)], ids=lambda r: r.name)
def test_block_by_block_is_all_at_once(rule: Rule, size: int, tmp_path: Path) -> None:
    updates = [update_of(layout_of(size), seed) for seed in range(29)]
    got = close_round(rule, updates, tmp_path)
    rows = np.array([update.trainable for update in updates])
    wide = rows.astype(np.float64)
    shares = rule.shares(wide @ wide.T)
    assert np.abs(got.trainable - (3 + rule.combine(rows[shares != 0], shares[shares != 0]))).max() < 1e-6
    assert compared.BUFFER_BYTES // (4 * len(rows)) < 40_001, "the larger size has to take several blocks"


@pytest.mark.parametrize("size", [1, 40_001])
@pytest.mark.parametrize("clip_norm", [None, 20.0])
def test_a_rule_may_start_from_what_the_last_round_came_to(size: int, clip_norm: float | None, tmp_path: Path) -> None:
    """It is one more row, in as many blocks, and not clipped like an update; without a last round it is 0."""
    layout, start = layout_of(size), np.random.default_rng(99).normal(0, 1, size).astype(np.float32)
    updates = [update_of(layout, seed) for seed in range(29)]
    scales = [scale_of(float(np.linalg.norm(update.trainable)), clip_norm) for update in updates]
    shape, rule = Shape(layout, PayloadKind.UPDATE, CodecId.FLOAT32), CenteredClipping(None, 3)
    for last in (start, None):
        compare = Compared(layout, rule, clip_norm, tmp_path)
        for update, scale in zip(updates, scales, strict=True):
            compare.fold_payload(shape, encode_update(update, CodecId.FLOAT32), scale)
        got = compare.finish(base_of(layout), STEP, last)
        rows = [s * update.trainable.astype(np.float64) for s, update in zip(scales, updates, strict=True)]
        wide = np.array([*rows, np.zeros(size) if last is None else last])
        assert np.abs(got.trainable - (3 + rule.shares(wide @ wide.T) @ wide)).max() < 1e-5


def test_buffers_and_counters_become_the_middle_value(tmp_path: Path) -> None:
    """A hostile client's variance or counter can't be worse than what the others send."""
    updates = [update_of(layout_of(4), seed) for seed in range(5)]
    updates[0].float_buffers[:], updates[0].integers[:] = -1e30, 2**53
    got = close_round(Krum(1), updates, tmp_path)
    assert got.float_buffers == pytest.approx(50 + np.median([each.float_buffers for each in updates], axis=0))
    assert (got.integers == np.sort([each.integers for each in updates], axis=0)[2]).all()
    even = close_round(Krum(0), updates[1:], tmp_path)
    assert (even.integers == np.sort([each.integers for each in updates[1:]], axis=0)[1]).all()
    assert got.frozen.tolist() == [7, 8]


@pytest.mark.parametrize(
    "codec", [CodecId.FLOAT16, CodecId.INT4, CodecId.ONE_BIT, Pipeline(CodecId.INT8, lossless=True)]
)
def test_every_codec_is_decoded_once_into_its_row(codec: CodecId | Pipeline, tmp_path: Path) -> None:
    layout = layout_of(9000)
    updates = [update_of(layout, seed) for seed in range(3)]
    shape = Shape(layout, PayloadKind.UPDATE, codec)
    decoded = np.array([decode(shape, encode_update(update, codec)).trainable for update in updates])
    assert close_round(Median(), updates, tmp_path, codec).trainable == pytest.approx(3 + np.median(decoded, axis=0))


def test_a_model_without_values_has_a_next_one_too(tmp_path: Path) -> None:
    empty = Layout(())
    updates = [Values.zeros(empty, frozen=False) for _ in range(3)]
    rows = Compared(empty, Median(), None, tmp_path)
    for update in updates:
        rows.fold_payload(Shape(empty, PayloadKind.UPDATE, CodecId.FLOAT32), encode_update(update, CodecId.FLOAT32))
    assert rows.finish(Values.zeros(empty), STEP).trainable.size == 0


def test_too_few_updates_are_never_compared(tmp_path: Path) -> None:
    layout = layout_of(4)
    with pytest.raises(ValueError, match="at least 5 updates"):
        close_round(Krum(1), [update_of(layout, seed) for seed in range(4)], tmp_path)


def test_memory_is_a_model_and_a_few_buffers_whatever_the_number_of_clients(tmp_path: Path) -> None:
    layout = layout_of(1_000_000)
    encoded = encode_update(update_of(layout, 1), CodecId.FLOAT32)
    shape, base, peaks = Shape(layout, PayloadKind.UPDATE, CodecId.FLOAT32), base_of(layout), []
    for clients in (5, 25):
        rows = Compared(layout, Krum(1), None, tmp_path)
        tracemalloc.start()
        for _ in range(clients):
            rows.fold_payload(shape, encoded)
        rows.finish(base, STEP)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < 4e6 + 12 * compared.BUFFER_BYTES
    assert abs(peaks[1] - peaks[0]) < compared.BUFFER_BYTES


def test_a_place_that_takes_no_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        Compared(layout_of(4), Median(), None, tmp_path / "nowhere")


# --- norms ------------------------------------------------------------------------------------------------------------


def test_long_updates_are_scaled_down(tmp_path: Path) -> None:
    """In the mean and under a rule, and their weight stays whole."""
    assert [scale_of(5, None), scale_of(5, 10), scale_of(5, 5), scale_of(20, 5)] == [1, 1, 1, 0.25]
    layout = Layout((TensorSpec("weight", (2,), "float32", Kind.TRAINABLE),))
    shape, updates = Shape(layout, PayloadKind.UPDATE, CodecId.FLOAT32), [(3.0, 4.0), (0.0, 1.0), (30.0, 40.0)]
    total, rows = Sum(layout, 5.0), Compared(layout, Median(), 5.0, tmp_path)
    for values in updates:
        update = Values.zeros(layout, frozen=False)
        update.trainable[:] = values
        encoded, scale = encode_update(update, CodecId.FLOAT32), scale_of(float(np.hypot(*values)), 5.0)
        total.fold_payload(shape, encoded, 2.0, scale)
        rows.fold_payload(shape, encoded, scale)
    base = Values.zeros(layout)
    assert total.finish(base, STEP).trainable == pytest.approx([2, 3])
    assert rows.finish(base, STEP).trainable == pytest.approx([3, 4])


def test_a_job_chooses_how_updates_are_combined(tmp_path: Path) -> None:
    assert combining_of(None) == MEAN
    mean = spec.Aggregation(type="Mean")
    clipped = combining_of(spec.Robustness(aggregation=mean, clip_norm=2.0, max_norm=9.0))
    assert clipped == Combining(None, 2.0, 9.0)
    assert isinstance(clipped.open(layout_of(1), tmp_path), Sum)
    median = combining_of(spec.Robustness(aggregation=spec.Aggregation(type="Median")))
    assert median == Combining(Median(), None, MAX_NORM)
    opened = median.open(layout_of(1), tmp_path)
    assert isinstance(opened, Compared)
    opened.close()
