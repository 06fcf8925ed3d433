"""A client's half of FedMA: its own model over matched layers, what it sends and what it keeps."""

import numpy as np
import pytest
import torch
from small_task import client, local, points
from torch import nn
from torch.utils.data import TensorDataset

from muster import Data, Task
from muster.errors import TaskError
from muster.matching import LOCAL, PHASE, UNITS, classes_of
from muster.orders import Matched, Scope
from muster.workshop import Hooks, Workshop
from muster_spec.types import TaskSpec
from muster_spec.work import Work
from muster_wire.matching import CLASSES, chain_of, with_units
from muster_wire.values import Values


class Chain(Task):
    """Three dense layers of 4, 8, 6 and 2."""

    def build_model(self):
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))

    def load_data(self, client):
        return Data(points(client.ordinal, 48), points(client.ordinal + 500, 16))


class Normed(Chain):
    def build_model(self):
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def shop_of(entrypoint="test_matching_at_clients:Chain"):
    task = TaskSpec(entrypoint=entrypoint, config={}, initial_model={"type": "Client"})
    return Workshop(Work(job="j", task=task, local=local(), seed=0, matches_layers=True))


def run(shop, base, state, matched):
    return shop.train(client(), base, state, 3, Hooks(lambda: False, lambda _: None, matched=matched))


def tensors(values):
    return {spec.name: view for spec, view in values.tensors()}


def wide(base, widths):
    """The base's numbers in a model of these widths, whose other units are noise."""
    chain, rng = chain_of(base.layout), np.random.default_rng(1)
    made = Values.zeros(with_units(base.layout, chain, widths))
    for spec, view in made.tensors():
        view[...] = rng.standard_normal(spec.shape)
        old = tensors(base)[spec.name]
        view[tuple(slice(0, n) for n in old.shape)] = old
    return made


def test_it_sends_the_layer_whose_turn_it_is_and_keeps_those_above():
    shop = shop_of()
    base = shop.initialise(1, with_groups=True)
    first = run(shop, base, {}, Matched(0))
    assert {spec.name: spec.shape for spec in first.update.layout.tensors} == {"0.weight": (8, 4), "0.bias": (8,)}
    assert not np.array_equal(tensors(first.update)["0.weight"], tensors(base)["0.weight"])
    kept = {name.removeprefix(LOCAL) for name in first.state_after if name.startswith(LOCAL)}
    assert kept == {"2.weight", "2.bias", "4.weight", "4.bias"}
    assert int(first.state_after[PHASE]) == 1


def test_what_is_matched_is_frozen_and_read_where_its_units_have_gone():
    """The matched layer is the client's own, in another order and with two units more."""
    shop = shop_of()
    base = shop.initialise(1, with_groups=True)
    first = run(shop, base, {}, Matched(0))
    places = np.array([9, 0, 3, 5, 1, 8, 2, 4])
    grown = wide(base, (10, 6))
    for name in ("0.weight", "0.bias"):
        tensors(grown)[name][places] = tensors(first.update)[name]
    second = run(shop, grown, dict(first.state_after), Matched(1, tuple(places.tolist())))
    sent = tensors(second.update)["2.weight"]
    assert sent.shape == (6, 10)
    assert not sent[:, [6, 7]].any() or np.abs(sent[:, [6, 7]]).max() < np.abs(sent[:, places]).max()
    own = first.state_after[LOCAL + "2.weight"].numpy()
    assert np.abs(sent[:, places] - own).max() < np.abs(own).max()
    assert second.state_after[f"{UNITS}0"].tolist() == places.tolist()
    assert {name for name in second.state_after if name.startswith(LOCAL)} == {LOCAL + "4.weight", LOCAL + "4.bias"}


def test_the_last_layer_brings_its_classes_and_ends_the_pass():
    shop = shop_of()
    base = shop.initialise(1, with_groups=True)
    first = run(shop, base, {}, Matched(0))
    second = run(shop, base, dict(first.state_after), Matched(1, tuple(range(8))))
    third = run(shop, base, dict(second.state_after), Matched(2, tuple(range(6))))
    assert [spec.name for spec in third.update.layout.tensors] == ["4.weight", "4.bias", CLASSES]
    assert tensors(third.update)[CLASSES].tolist() == [24, 24]
    assert set(third.state_after) == {f"{UNITS}0", f"{UNITS}1", PHASE}
    assert int(third.state_after[PHASE]) == 0


def test_a_new_pass_begins_with_the_units_that_were_its_own():
    """A rate of nothing: what is sent is what it began with."""
    task = TaskSpec(entrypoint="test_matching_at_clients:Chain", config={}, initial_model={"type": "Client"})
    shop = Workshop(Work(job="j", task=task, local=local(learning_rate=1e-30), seed=0, matches_layers=True))
    grown = wide(shop.initialise(1, with_groups=True), (10, 9))
    places = [9, 0, 3, 5, 1, 8, 2, 4]
    known = {f"{UNITS}0": torch.tensor(places), f"{UNITS}1": torch.tensor([8, 7, 6, 5, 4, 3])}
    for state, mine in ((known, places), ({}, list(range(8)))):
        sent = run(shop, grown, state, Matched(0))
        np.testing.assert_array_equal(tensors(sent.update)["0.weight"], tensors(grown)["0.weight"][mine])
    kept = run(shop, grown, known, Matched(0)).state_after[LOCAL + "4.weight"].numpy()
    np.testing.assert_array_equal(kept, tensors(grown)["4.weight"][:, [8, 7, 6, 5, 4, 3]])


@pytest.mark.parametrize("lost", ["everything", "another phase"])
def test_a_client_that_lost_its_layers_says_when_it_can_come_back(lost):
    shop = shop_of()
    base = shop.initialise(1, with_groups=True)
    state = {} if lost == "everything" else dict(run(shop, base, {}, Matched(0)).state_after)
    with pytest.raises(TaskError, match="when the next pass begins"):
        run(shop, base, state, Matched(2 if state else 1, tuple(range(6 if state else 8))))


def test_models_of_any_width_are_measured():
    shop = shop_of()
    base = shop.initialise(1, with_groups=True)
    assert shop.evaluate(client(), wide(base, (13, 9)), {}, Scope.LOCAL).examples == 16


def test_models_that_cannot_be_matched_are_refused_with_the_reason():
    with pytest.raises(TaskError, match=r"FedMA can't match this model: 1\.running_mean: .*batch norm"):
        shop_of("test_matching_at_clients:Normed").initialise(1, with_groups=True)


def test_targets_have_to_be_classes():
    assert classes_of(points(0, 10), 3).tolist() == [5, 5, 0]
    for targets in (torch.rand(4), torch.tensor([0, 1, 2, 5]), torch.zeros(4, 2, dtype=torch.int64)):
        with pytest.raises(TaskError, match="by class"):
            classes_of(TensorDataset(torch.rand(4, 2), targets), 3)
