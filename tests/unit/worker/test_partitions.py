import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.errors import ConfigError
from muster.partition import (
    ByDirichlet,
    ByLabels,
    Evenly,
    Reserved,
    by_dirichlet,
    by_key,
    by_labels,
    choose_partition,
    evenly,
    split,
)

SIZES = st.lists(st.integers(12, 60), min_size=2, max_size=10)


def labels_of(sizes):
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))


def assert_each_once(shares, size):
    assert sorted(np.concatenate(shares).tolist()) == list(range(size))
    assert all(len(share) for share in shares)


@given(SIZES, st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_by_labels(sizes, clients, each, seed):
    each = min(each, len(sizes))
    clients = max(clients, -(-len(sizes) // each))
    labels = labels_of(sizes)
    shares = by_labels(labels, clients, each, seed)
    assert_each_once(shares, len(labels))
    assert len(shares) == clients
    assert all(len(np.unique(labels[share])) <= each for share in shares)
    assert all(np.array_equal(a, b) for a, b in zip(shares, by_labels(labels, clients, each, seed), strict=True))


def test_by_labels_is_even_where_classes_are():
    labels = labels_of([120] * 10)
    sizes = [len(share) for share in by_labels(labels, 10, 3, seed=1)]
    assert min(sizes) > 100
    assert max(sizes) < 140


def test_reserved_classes_are_held_by_some_clients_alone_and_by_all_of_them():
    labels, holders = labels_of([120] * 10), range(14, 20)
    shares = by_labels(labels, 20, 3, seed=1, reserved=Reserved(classes=(3, 8), clients=tuple(holders)))
    assert_each_once(shares, len(labels))
    for client, share in enumerate(shares):
        held = set(labels[share].tolist())
        assert len(held) == 3
        assert held & {3, 8} == ({3, 8} if client in holders else set())
    sizes = [len(share) for share in shares]
    assert max(sizes) < 1.2 * min(sizes)  # six of twenty hold each reserved class, as they would hold any


def test_reserved_classes_in_a_tasks_options():
    partition = ByLabels(classes_per_client=1, reserved=Reserved(classes=(0,), clients=(2, 3)))
    labels = labels_of([30] * 3)
    assert [set(labels[share].tolist()) == {0} for share in split(labels, 6, partition, 9)] == [
        client in (2, 3) for client in range(6)
    ]


@pytest.mark.parametrize(
    ("classes", "clients", "each", "message"),
    [
        ((), (0,), 2, r"reserved\.classes"),
        ((9,), (0,), 2, r"reserved\.classes"),
        ((0, 1, 2, 3), (0,), 2, "not all"),
        ((0,), (), 2, r"reserved\.clients"),
        ((0,), (4,), 2, "between 0 and 3"),
        ((0,), (-1,), 2, "between 0 and 3"),
        ((0, 1), (0,), 1, "no holder"),  # one client can't hold both
        ((0,), (0, 1, 2), 1, "no holder"),  # one is left for three other classes
    ],
)
def test_classes_that_cannot_be_reserved(classes, clients, each, message):
    with pytest.raises(ConfigError, match=message):
        by_labels(labels_of([30] * 4), 4, each, seed=0, reserved=Reserved(classes=classes, clients=clients))


@pytest.mark.parametrize(
    ("clients", "each", "message"), [(4, 2, "with 3 or more each"), (10, 0, "between 1 and"), (10, 11, "between 1 and")]
)
def test_labels_that_cannot_be_dealt(clients, each, message):
    with pytest.raises(ConfigError, match=message):
        by_labels(labels_of([30] * 10), clients, each, seed=0)


def test_more_clients_than_examples():
    with pytest.raises(ConfigError, match="would hold no example"):
        evenly(3, 5, seed=0)


@given(SIZES, st.integers(1, 8), st.sampled_from([0.1, 0.5, 10.0]), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_by_dirichlet(sizes, clients, alpha, seed):
    labels = labels_of(sizes)
    shares = by_dirichlet(labels, clients, alpha, 1, seed)
    assert_each_once(shares, len(labels))


def test_a_smaller_alpha_is_more_skewed():
    labels = labels_of([100] * 10)

    def skew(alpha):
        counts = [np.bincount(labels[share], minlength=10) for share in by_dirichlet(labels, 10, alpha, 1, seed=0)]
        return np.mean([count.max() / count.sum() for count in counts])

    assert skew(0.1) > skew(1.0) > skew(100.0)


@pytest.mark.parametrize(
    ("alpha", "least", "message"), [(0.0, 1, "above 0"), (1.0, 99, "minSize"), (0.01, 9, "raise alpha")]
)
def test_dirichlet_that_cannot_be_drawn(alpha, least, message):
    with pytest.raises(ConfigError, match=message):
        by_dirichlet(labels_of([10] * 10), 10, alpha, least, seed=0)


@given(st.integers(1, 200), st.integers(1, 12), st.integers(0, 2**32))
def test_evenly(size, clients, seed):
    clients = min(clients, size)
    shares = evenly(size, clients, seed)
    assert_each_once(shares, size)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.lists(st.sampled_from("abcdefg"), min_size=7, max_size=80), st.integers(1, 7))
def test_a_key_is_never_split(keys, clients):
    clients = min(clients, len(set(keys)))
    shares = by_key(keys, clients)
    assert_each_once(shares, len(keys))
    owners = [{keys[index] for index in share} for share in shares]
    assert sum(map(len, owners)) == len(set(keys))


def test_too_few_keys():
    with pytest.raises(ConfigError, match="2 natural holders"):
        by_key(["a", "b", "a"], 3)


def test_split_goes_by_the_kind_of_partition():
    labels = labels_of([30] * 4)
    expected = {
        ByLabels(classes_per_client=2): by_labels(labels, 4, 2, 9),
        ByDirichlet(alpha=1.0): by_dirichlet(labels, 4, 1.0, 10, 9),
        Evenly(): evenly(120, 4, 9),
    }
    for partition, shares in expected.items():
        assert all(np.array_equal(a, b) for a, b in zip(split(labels, 4, partition, 9), shares, strict=True))


def test_the_shorthand():
    assert choose_partition(3, None) == ByLabels(classes_per_client=3)
    assert choose_partition(None, None) == Evenly()
    assert choose_partition(None, ByDirichlet(alpha=1.0)) == ByDirichlet(alpha=1.0)
    with pytest.raises(ConfigError, match="one of the two"):
        choose_partition(3, Evenly())
