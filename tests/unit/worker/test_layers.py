"""Backward passes that end between two layers: what of a step is taken, and what an update then lacks."""

import pytest
import torch
from small_task import client, local, points
from torch import nn

from muster import Data, Task
from muster.training import Training, train
from muster.workshop import Hooks, Workshop
from muster_spec.types import TaskSpec
from muster_spec.work import Work
from muster_wire.reduced import missing_of

CPU = torch.device("cpu")
LAST = ("4.bias", "4.weight")


class Deep(Task):
    """Three layers; the last one first in backpropagation."""

    def build_model(self):
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))

    def load_data(self, client):  # noqa: ARG002
        return Data(points(0, 48))


class StepClock:
    """A step takes a second: what of it is done is said by `within`, and `step` ends it."""

    def __init__(self):
        self.whole, self.part = 0, 0.0

    def __call__(self):
        return self.whole + self.part

    def within(self, fraction):
        self.part = fraction

    def step(self, _):
        self.whole, self.part = self.whole + 1, 0.0


def fit(deadline, layered=True, **changes):
    """Three steps a pass; a third of each is forward, and 2/9 are each layer's. What has moved, and what came of it."""
    task, clock = Deep({}), StepClock()
    torch.manual_seed(0)
    model = task.build_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    job = Training(
        local=local(epochs=1, batch_size=16, **changes),
        seed=0,
        device=CPU,
        clock=clock,
        deadline=deadline,
        progress=clock.step,
        within=clock.within,
        is_layered=layered,
    )
    trained = train(task, model, points(0, 48), job)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    return moved, trained, model


@pytest.mark.parametrize(
    ("deadline", "layers", "steps"),
    [
        (0.0, {"4"}, 1),  # the last layer is never given up
        (0.5, {"4"}, 1),
        (0.6, {"4", "2"}, 1),
        (0.8, {"4", "2", "0"}, 1),  # the whole step was done by then
        (1.5, {"4", "2", "0"}, 1),  # a second step for the last layer alone
        (9.0, {"4", "2", "0"}, 3),
    ],
)
def test_the_layers_that_are_done_in_time_take_the_step(deadline, layers, steps):
    moved, trained, _ = fit(deadline)
    assert moved == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert trained.steps == steps
    assert set(trained.missing) == {f"{n}.{kind}" for n in ("0", "2", "4") for kind in ("weight", "bias")} - moved


def test_a_step_cut_short_moves_its_layers_as_a_whole_one_would():
    """Against one whole step: the last layer the same to the bit, all others as they came."""
    _, _, cut = fit(0.5)
    _, _, whole = fit(9.0, layered=False, max_steps=1)
    assert torch.equal(cut[4].weight, whole[4].weight)
    assert torch.equal(cut[4].bias, whole[4].bias)
    assert not torch.equal(cut[0].weight, whole[0].weight)


def test_with_time_enough_it_is_the_usual_training_to_the_bit():
    _, _, layered = fit(9.0)
    _, _, usual = fit(9.0, layered=False)
    assert all(torch.equal(a, b) for a, b in zip(layered.parameters(), usual.parameters(), strict=True))


def test_without_it_the_first_step_is_done_whole():
    moved, trained, _ = fit(0.0, layered=False)
    assert len(moved) == 6
    assert trained.missing == ()


def test_the_update_lacks_what_was_not_trained():
    task = TaskSpec(entrypoint="test_layers:Deep", config={}, initial_model={"type": "Client"})
    work = Work(job="j", task=task, local=local(batch_size=16), seed=0, stops_between_layers=True)
    clock = StepClock()
    shop = Workshop(work, clock)
    base = shop.initialise(1)
    for stop_at, missing in ((0.5, ("0.weight", "0.bias", "2.weight", "2.bias")), (9.0, ())):
        clock.whole, clock.part = 0, 0.0
        hooks = Hooks(lambda: False, clock.step, stop_at=stop_at, within=clock.within)
        update = shop.train(client(), base, {}, 3, hooks).update
        assert missing_of(update.layout, base.layout) == missing
    assert [
        spec.name
        for spec in shop.train(
            client(), base, {}, 3, Hooks(lambda: False, lambda _: None, stop_at=-1.0, within=clock.within)
        ).update.layout.tensors
    ] == ["4.weight", "4.bias"]


def test_buffers_come_along():
    """Points has batch norm: its running statistics are in the update whatever layers are."""
    task = TaskSpec(entrypoint="small_task:Points", config={}, initial_model={"type": "Client"})
    shop = Workshop(Work(job="j", task=task, local=local(), seed=0, stops_between_layers=True), lambda: 0.0)
    base = shop.initialise(1)
    update = shop.train(client(), base, {}, 3, Hooks(lambda: False, lambda _: None, stop_at=0.0)).update
    assert update.trainable.size == 8 * 2 + 2
    assert update.float_buffers.size == base.float_buffers.size
