"""How steep the loss is along a training, against functions whose slopes are known."""

import pytest
import torch
from small_task import Points, client, local, points
from torch import nn
from torch.utils.data import TensorDataset

from muster import Data, Task
from muster.slopes import ground_of, slopes
from muster.training import Training, train
from muster.workshop import Hooks, Workshop
from muster_spec.types import TaskSpec
from muster_spec.work import Work

CPU = torch.device("cpu")


class Bowl(Task):
    """F(w) = mean of ½ ‖x w - y‖² with x 1: a gradient of w - mean y, whose slope is 1."""

    def build_model(self):
        return nn.Linear(1, 1, bias=False)

    def load_data(self, client):  # noqa: ARG002
        return Data(TensorDataset(torch.ones(4, 1), torch.tensor([[1.0], [2.0], [3.0], [2.0]])))

    def loss(self, outputs, targets):
        return (outputs - targets).square().mean() / 2


def at(value):
    model = Bowl({}).build_model()
    with torch.no_grad():
        model.weight.fill_(value)
    return ground_of(Bowl({}), model, Bowl({}).load_data(None).train, 3, CPU)  # a batch of three and one of one


def test_slopes_of_a_bowl():
    """F is (w - 2)² / 2 + 1/4: from 0 to 1 it falls from 2.25 to 0.75, and the gradient rises from -2 to -1."""
    before, after = at(0.0), at(1.0)
    assert (before.loss, after.loss) == (pytest.approx(2.25), pytest.approx(0.75))
    assert before.gradient[0].item() == pytest.approx(-2)
    assert slopes(before, after) == {"lossSlope": pytest.approx(1.5), "gradientSlope": pytest.approx(1.0)}
    assert slopes(before, at(0.0)) == {}


def test_measuring_leaves_the_model_as_it_was():
    task, data = Points({}), points(0, 48)
    model = task.build_model().train()
    before = [tensor.clone() for tensor in model.state_dict().values()]
    ground_of(task, model, data, 16, CPU)
    assert model.training
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
    assert all(torch.equal(one, other) for one, other in zip(before, model.state_dict().values(), strict=True))


def test_a_client_takes_as_many_steps_as_it_is_told_whatever_its_epochs():
    """48 examples in batches of 16 are three steps a pass."""
    for steps in (1, 2, 3, 8):
        model = Points({}).build_model()
        job = Training(local=local(epochs=1), seed=0, device=CPU, clock=lambda: 0.0, steps=steps)
        assert train(Points({}), model, points(0, 48), job).steps == steps


def test_the_workshop_measures_slopes_and_takes_steps_where_the_job_asks():
    task = TaskSpec(entrypoint="test_slopes:Bowl", config={}, initial_model={"type": "Client"})
    work = Work(
        job="j", task=task, local=local(epochs=1, batch_size=4, learning_rate=0.5), seed=0, measures_slopes=True
    )
    shop = Workshop(work)
    base = shop.initialise(1)
    hooks = Hooks(lambda: False, lambda _: None, steps=3)
    trained = shop.train(client(), base, {}, 0, hooks).trained
    assert trained.steps == 3
    assert trained.metrics["gradientSlope"] == pytest.approx(1.0, rel=1e-4)
    start, end = base.trainable[0], 2 + (base.trainable[0] - 2) / 8
    fallen = abs((end - 2) ** 2 - (start - 2) ** 2) / 2 / abs(end - start)
    assert trained.metrics["lossSlope"] == pytest.approx(fallen, rel=1e-4)
