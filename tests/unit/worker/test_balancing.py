"""Which examples a client trains on, against choices made by hand, and what it remembers of them."""

import math

import pytest
import torch
from small_task import Points, client, local, points
from torch import nn
from torch.utils.data import ConcatDataset, TensorDataset

from muster.arrays import load_values
from muster.balancing import LOSSES, Balance, balance_of, choose, fitting, measure, subset
from muster.client_state import of_model
from muster.orders import Sampling
from muster.training import Trained, Training, train
from muster.workshop import Hooks, Workshop
from muster_spec.rounds_types import FedBalancer
from muster_spec.rounds_types import Sampling as SamplingSpec
from muster_spec.types import TaskSpec
from muster_spec.work import Work

CPU = torch.device("cpu")
TEN = torch.tensor([0.5, 0.1, 0.9, 0.3, 0.7, 1.0, 0.2, 0.8, 0.4, 0.6])  # 0.7, 0.8, 0.9 and 1.0 at 4, 7, 2 and 5
HARD = {2, 4, 5, 7}


@pytest.mark.parametrize(
    ("threshold", "fits", "share", "hard", "easy"),
    [
        (0.65, None, 1.0, 4, 0),  # nobody knows how fast it is: as many as are hard
        (0.65, 10, 1.0, 4, 6),  # it gets through all of them
        (0.65, 6, 1.0, 4, 2),  # ... through more than the hard ones
        (0.65, 2, 1.0, 4, 0),  # ... not even through those
        (0.65, 6, 0.5, 3, 3),
        (0.65, None, 0.5, 2, 2),
        (0.65, 9, 0.1, 3, 6),  # there are no more easy ones
        (0.65, 9, 0.9, 4, 5),  # ... and no more hard ones
        (9.0, None, 1.0, 1, 0),  # the hardest is always there
        (None, 3, 1.0, 10, 0),  # no threshold yet: all of them, whatever the time
    ],
)
def test_choices_are_those_of_algorithm_1(threshold, fits, share, hard, easy):
    chosen = choose(TEN, threshold, fits, share, torch.Generator().manual_seed(1)).tolist()
    bar = set(range(10)) if threshold is None else {5} if threshold > 1 else HARD
    assert chosen == sorted(set(chosen))
    assert (len(bar.intersection(chosen)), len(set(chosen) - bar)) == (hard, easy)


def test_the_draw_follows_its_seed():
    draws = [choose(TEN, 0.65, 6, 0.5, torch.Generator().manual_seed(seed)).tolist() for seed in (1, 1, 2, 3)]
    assert draws[0] == draws[1]
    assert len({tuple(each) for each in draws}) > 1


def test_whole_batches_of_every_epoch_have_to_fit():
    job = local(epochs=2, batch_size=16)
    assert fitting(10.0, 0.5, job) == 160  # ten batches, twice
    assert fitting(10.9, 0.5, job) == 160
    assert fitting(-3.0, 0.5, job) == 0
    assert fitting(10.0, None, job) is None
    assert fitting(math.inf, 0.5, job) is None


def test_what_is_said_is_the_least_loss_and_the_eightieth_percentile():
    assert Balance(torch.arange(11.0)).metrics == {"lossLow": 0.0, "lossHigh": 8.0}


def test_losses_of_other_examples_are_not_known():
    state = Balance(TEN).tensors | {"4.weight": torch.zeros(2)}
    assert torch.equal(balance_of(state, 10).losses, TEN)
    assert balance_of(state, 9) is None
    assert balance_of({}, 10) is None
    assert list(of_model(state)) == ["4.weight"]


@pytest.mark.parametrize("many", [False, True])
def test_training_brings_the_last_loss_of_each_example(many):
    """With a rate of nothing the losses are those of the model that came, however they were batched."""
    task, data = Points({}), points(0, 50)
    dataset, model = ConcatDataset([data]) if many else data, nn.Linear(4, 2)
    job = Training(local=local(learning_rate=1e-30), seed=3, device=CPU, clock=lambda: 0.0, notes_losses=True)
    trained = train(task, model, dataset, job)
    torch.testing.assert_close(trained.losses, measure(task, model, data, CPU).losses)
    assert train(task, model, data, Training(local=local(), seed=3, device=CPU, clock=lambda: 0.0)).losses is None


def test_some_of_the_examples_stay_tensors():
    data, chosen = points(0, 48), torch.tensor([1, 5, 7])
    assert subset(data, torch.arange(48)) is data
    some = subset(data, chosen)
    assert isinstance(some, TensorDataset)
    assert torch.equal(some.tensors[0], data.tensors[0][chosen])
    other = subset(ConcatDataset([data]), chosen)
    assert [int(other[place][1]) for place in range(3)] == data.tensors[1][chosen].tolist()


class Clock:
    """A step takes a second."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def step(self, _):
        self.now += 1.0


class Quiet(Points):
    """Has a loop of its own, that says nothing of losses and changes nothing."""

    def train(self, model, dataset, training):  # noqa: ARG002
        return Trained(len(dataset), 1)


def shop_and_clock(entrypoint="small_task:Points"):
    spec = SamplingSpec(type="FedBalancer", fed_balancer=FedBalancer(hard_share=1.0))
    task = TaskSpec(entrypoint=entrypoint, config={}, initial_model={"type": "Client"})
    job = local(epochs=1, batch_size=8, sampling=spec)
    clock = Clock()
    return Workshop(Work(job="j", task=task, local=job, seed=0), clock), clock


def test_a_slow_client_trains_on_its_hard_examples_and_remembers_their_losses():
    """48 examples are six steps of a second. The first training has none to choose; the second has time for three."""
    shop, clock = shop_and_clock()
    base = shop.initialise(1)

    def run(state, left_s, threshold):
        hooks = Hooks(lambda: False, clock.step, sampling=Sampling(clock.now + left_s, threshold))
        return shop.train(client(), base, state, 7, hooks)

    first = run({}, 3.0, None)
    assert (first.trained.examples, first.trained.steps) == (48, 6)
    losses = first.state_after[LOSSES]
    assert losses.shape == (48,)
    bar = losses.quantile(0.75).item()  # twelve are hard, and there is time for 24
    second = run(dict(first.state_after), 3.0, bar)
    assert (second.trained.examples, second.trained.steps) == (24, 3)
    changed = second.state_after[LOSSES] != losses
    assert changed.sum() == 24
    assert changed[losses >= bar].all()
    assert second.trained.metrics["lossLow"] == second.state_after[LOSSES].min().item()
    everything = run(dict(first.state_after), 60.0, bar)
    assert everything.trained.examples == 48
    third = run({}, 60.0, None)  # its memory is lost: measured anew
    assert third.trained.examples == 48
    assert LOSSES in third.state_after


def test_without_sampling_there_is_nothing_to_remember():
    shop, clock = shop_and_clock()
    base = shop.initialise(1)
    trained = shop.train(client(), base, {}, 7, Hooks(lambda: False, clock.step))
    assert LOSSES not in trained.state_after


def test_a_task_with_a_loop_of_its_own_is_measured_after_it():
    shop, clock = shop_and_clock("test_balancing:Quiet")
    base = shop.initialise(1)
    found = shop.train(client(), base, {}, 7, Hooks(lambda: False, clock.step, sampling=Sampling()))
    model = Points({}).build_model()
    load_values(model, base)
    torch.testing.assert_close(found.state_after[LOSSES], measure(Points({}), model, points(0, 48), CPU).losses)
