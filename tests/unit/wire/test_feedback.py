from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_wire import payload
from muster_wire.codecs import CodecId, Pipeline
from muster_wire.errors import LayoutError, PayloadError
from muster_wire.feedback import Memory, Recipe, encode
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.messages import recipe_from, recipe_message
from muster_wire.payload import PayloadKind, Shape
from muster_wire.presets import PRESETS
from muster_wire.selection import Choice, choose, largest
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.values import Floats, Values

SIZE = 600
LAYOUT = Layout(
    (
        TensorSpec("a", (20, 25), "float32", Kind.TRAINABLE),
        TensorSpec("mean", (3,), "float32", Kind.FLOAT_BUFFER),
        TensorSpec("b", (100,), "float32", Kind.TRAINABLE),
        TensorSpec("steps", (), "int64", Kind.INTEGER_BUFFER),
    )
)
LOSSY = [
    Recipe(Pipeline(CodecId.INT4, block=32), error_feedback=True),
    Recipe(Pipeline(CodecId.SIGN, lossless=True, block=32), error_feedback=True),
    Recipe(Pipeline(CodecId.ONE_BIT, block=64), error_feedback=True),
    Recipe(Pipeline(CodecId.INT4, sparse=True, lossless=True), Choice(0.05), warm_up=2, error_feedback=True),
    Recipe(Pipeline(CodecId.FLOAT16, sparse=True), Choice(0.02, per_tensor=True), error_feedback=True),
]


def update_of(seed: int) -> Values:
    rng = np.random.default_rng(seed)
    values = Values.zeros(LAYOUT, frozen=False)
    values.trainable[:] = rng.standard_t(3, SIZE)
    values.float_buffers[:] = rng.normal(size=3)
    values.integers[:] = seed
    return values


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_less_of_an_update_is_its_largest_values_as_they_were_sent() -> None:
    recipe = Recipe(Pipeline(CodecId.INT8, sparse=True), Choice(0.1), error_feedback=True, probe=0.02)
    encoded = encode(update_of(3), recipe, Memory.empty(), rng())
    fewer = encoded.fewer(recipe.probe)
    kept = fewer.trainable != 0
    assert np.count_nonzero(kept) == 12
    assert np.array_equal(fewer.trainable[kept], encoded.decoded.trainable[kept])
    assert np.abs(fewer.trainable[kept]).min() >= np.abs(encoded.decoded.trainable[~kept]).max()
    assert np.array_equal(fewer.float_buffers, encoded.decoded.float_buffers)


@pytest.mark.parametrize("probe", [-0.1, 0.1, 0.5, 1.0])
def test_a_probe_is_a_smaller_share(probe: float) -> None:
    with pytest.raises(ValueError, match="probe"):
        Recipe(Pipeline(CodecId.INT8, sparse=True), Choice(0.1), probe=probe)


@pytest.mark.parametrize("recipe", LOSSY)
@settings(deadline=None, max_examples=15)
@given(rounds=st.integers(1, 8), seed=st.integers(0, 1000))
def test_what_was_decoded_and_what_is_left_is_what_was_trained(recipe: Recipe, rounds: int, seed: int) -> None:
    """The identity that error feedback stands on: nothing is lost, at any time."""
    memory, trained, decoded = Memory.empty(), np.zeros(SIZE), np.zeros(SIZE)
    for turn in range(rounds):
        update = update_of(seed + turn)
        encoded = encode(update, recipe, memory, rng(turn))
        memory = encoded.memory
        trained += update.trainable
        decoded += encoded.decoded.trainable
    np.testing.assert_allclose(decoded + memory.residual, trained, atol=1e-4)
    assert memory.participations == rounds


@pytest.mark.parametrize("recipe", LOSSY)
def test_the_decoded_update_is_what_a_reader_gets(recipe: Recipe) -> None:
    encoded = encode(update_of(1), recipe, Memory.empty(), rng())
    shape = Shape(LAYOUT, PayloadKind.UPDATE, recipe.pipeline)
    payload.check(shape, encoded.payload)
    assert payload.decode(shape, encoded.payload).digest() == encoded.decoded.digest()
    assert encoded.decoded.float_buffers.tobytes() == update_of(1).float_buffers.tobytes()
    assert encoded.decoded.integers.tolist() == [1]


@pytest.mark.parametrize("recipe", [*LOSSY, Recipe(LOSSY[3].pipeline, Choice(0.1), momentum=0.9, error_feedback=True)])
def test_encoding_changes_nothing_that_it_was_given(recipe: Recipe) -> None:
    """A round that failed starts again from the same memory and gives the same bytes."""
    before = encode(update_of(1), recipe, Memory.empty(), rng()).memory
    copies = {name: array.copy() for name, array in before.arrays().items()}
    update = update_of(2)
    first = encode(update, recipe, before, rng(5))
    assert first.payload == encode(update, recipe, before, rng(5)).payload
    assert update.digest() == update_of(2).digest()
    for name, array in before.arrays().items():
        np.testing.assert_array_equal(array, copies[name])


def test_without_error_feedback_nothing_is_remembered_but_participations() -> None:
    recipe = Recipe(Pipeline(CodecId.INT8))
    memory = encode(update_of(1), recipe, Memory.empty(), rng()).memory
    assert (memory.residual.size, memory.momentum.size, memory.participations) == (0, 0, 1)


def test_momentum_runs_on_what_is_trained_and_stops_where_it_was_sent() -> None:
    """Deep Gradient Compression by hand: u = m u + g, v = v + u, then both are zero where v was sent."""
    recipe = Recipe(Pipeline(sparse=True), Choice(0.1), momentum=0.9, error_feedback=True)
    memory, u, v = Memory.empty(), np.zeros(SIZE, np.float32), np.zeros(SIZE, np.float32)
    for turn in range(5):
        update = update_of(turn)
        encoded = encode(update, recipe, memory, rng())
        u = np.float32(0.9) * u + update.trainable
        v = v + u
        sent = encoded.decoded.trainable != 0
        assert sent.sum() == 60
        assert np.abs(v[sent]).min() >= np.abs(v[~sent]).max()
        np.testing.assert_array_equal(encoded.decoded.trainable[sent], v[sent])
        u[sent] = v[sent] = 0
        memory = encoded.memory
        np.testing.assert_array_equal(memory.momentum, u)
        np.testing.assert_array_equal(memory.residual, v)


def test_the_warm_up_counts_participations() -> None:
    recipe = Recipe(Pipeline(sparse=True), Choice(0.001), warm_up=4, error_feedback=True)
    shares = [recipe.share(turn) for turn in range(7)]
    assert shares == pytest.approx([0.2512, 0.0631, 0.01585, 0.00398, 0.001, 0.001, 0.001], rel=1e-3)
    assert Recipe(Pipeline(sparse=True), Choice(0.01)).share(0) == 0.01


def test_memory_survives_as_arrays() -> None:
    recipe = Recipe(Pipeline(sparse=True), Choice(0.1), momentum=0.5, error_feedback=True)
    memory = encode(update_of(1), recipe, Memory.empty(), rng()).memory
    again = Memory.from_arrays(memory.arrays(), SIZE)
    assert encode(update_of(2), recipe, again, rng()).payload == encode(update_of(2), recipe, memory, rng()).payload
    assert Memory.from_arrays(Memory.empty().arrays(), SIZE).residual.size == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"residual": np.zeros(SIZE - 1, np.float32)},
        {"residual": np.zeros(SIZE, np.float64)},
        {"momentum": np.full(SIZE, np.nan, np.float32)},
        {"participations": np.array([-1])},
        {"participations": np.array([1.0])},
        {"participations": np.array([1, 2])},
        {"more": np.zeros(1)},
    ],
)
def test_memory_of_another_model_is_refused(changes: dict[str, np.ndarray]) -> None:
    with pytest.raises(LayoutError, match="codec's memory"):
        Memory.from_arrays(Memory.empty().arrays() | changes, SIZE)


def test_memory_that_does_not_fit_is_refused_before_it_is_used() -> None:
    memory = Memory(np.zeros(5, np.float32), np.zeros(0, np.float32))
    with pytest.raises(LayoutError, match="another model"):
        encode(update_of(1), LOSSY[0], memory, rng())


@pytest.mark.parametrize(
    ("recipe", "complaint"),
    [
        (lambda: Recipe(Pipeline(), Choice(0.5)), "has to be sparse"),
        (lambda: Recipe(Pipeline(sparse=True), Choice(0.5), momentum=0.5), "switch that on"),
        (lambda: Recipe(Pipeline(), momentum=1.0, error_feedback=True), "below 1"),
        (lambda: Recipe(Pipeline(), warm_up=-1), "negative length"),
        (lambda: Choice(0), "share"),
        (lambda: Choice(1.5), "share"),
        (lambda: Choice(float("nan")), "share"),
    ],
)
def test_recipes_that_cannot_work(recipe, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        recipe()


# --- top-k ------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32), share=st.floats(0.001, 0.999))
def test_exact_top_k_is_the_largest(seed: int, share: float) -> None:
    values = np.random.default_rng(seed).standard_t(2, 1000).astype(np.float32)
    places = largest(values, Choice(share), rng())
    wanted = max(1, round(1000 * share))
    assert sorted(np.abs(values[places])) == sorted(np.abs(values))[1000 - wanted :]


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1])
def test_a_sampled_threshold_keeps_about_as_many_of_the_largest(share: float) -> None:
    values = np.random.default_rng(0).standard_t(3, 2**18).astype(np.float32)
    places = largest(values, Choice(share, sampled=True), rng(3))
    assert 0.6 * share < places.size / values.size <= 1.25 * share
    rest = np.delete(np.abs(values), places)
    assert np.abs(values[places]).min() >= rest.max()


def test_a_sampled_threshold_never_sends_far_more_than_asked() -> None:
    """All magnitudes alike: everything passes any threshold."""
    values = np.ones(2**16, np.float32)
    assert largest(values, Choice(0.01, sampled=True), rng()).size == round(0.01 * 2**16)


def test_each_tensor_has_its_own_largest() -> None:
    values = np.concatenate([np.full(500, 100.0), np.ones(100)]).astype(np.float32)
    values += np.arange(600, dtype=np.float32) / 1000
    assert np.flatnonzero(choose(values, LAYOUT, Choice(0.01), rng())).tolist() == list(range(494, 500))
    kept = np.flatnonzero(choose(values, LAYOUT, Choice(0.01, per_tensor=True), rng()))
    assert kept.tolist() == [495, 496, 497, 498, 499, 599]


def test_nothing_to_choose_from() -> None:
    empty: Floats = np.zeros(0, np.float32)
    assert choose(empty, Layout(()), Choice(0.5), rng()).size == 0


# --- presets and messages ---------------------------------------------------------------------------------------------


def test_presets_are_what_a_manifest_can_name() -> None:
    assert list(PRESETS) == ["none", "light", "balanced", "max"]
    saved = [preset.saved for preset in PRESETS.values()]
    assert saved == sorted(saved)


@pytest.mark.parametrize("recipe", [*LOSSY, *(preset.up for preset in PRESETS.values())])
def test_recipes_travel(recipe: Recipe) -> None:
    message = pb.Recipe.FromString(recipe_message(recipe).SerializeToString())
    assert recipe_from(message) == recipe


@pytest.mark.parametrize("changes", [{"share": 0.0}, {"share": 0.5}, {"momentum": 2.0}, {"momentum": 0.5}])
def test_recipes_that_lie_are_refused(changes: dict[str, float]) -> None:
    message = recipe_message(Recipe(Pipeline()))
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(PayloadError, match="can't work"):
        recipe_from(message)
