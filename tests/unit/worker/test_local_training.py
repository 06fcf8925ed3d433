import math

import pytest
import torch
from small_task import Points, local, points
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, TensorDataset

from muster.batches import batches, union
from muster.errors import TaskError
from muster.evaluation import evaluate
from muster.training import Training, build_optimizer, seeded, train
from muster_spec.types import Optimizer

CPU = torch.device("cpu")


class StubClock:
    """One second a reading."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1
        return self.now


def build(seed=0):
    with seeded(seed, CPU):
        return Points({}).build_model()


def fit(seed=1, mu=0.0, dataset=None, model=None, training=None, task=None, **changes):
    model = model or build()
    training = training or {}
    job = Training(local=local(**changes), seed=seed, device=CPU, clock=StubClock(), proximal_mu=mu, **training)
    return model, train(task or Points({}), model, points(0, 48) if dataset is None else dataset, job)


def flat(model):
    return torch.cat([tensor.detach().double().flatten() for tensor in model.state_dict().values()])


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    first, second, other = fit(seed=5)[0], fit(seed=5)[0], fit(seed=6)[0]
    assert torch.equal(flat(first), flat(second))
    assert not torch.equal(flat(first), flat(other))


def test_training_leaves_torchs_generator_as_it_was():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    fit()
    fit(dataset=ConcatDataset([points(0, 48)]))
    assert torch.equal(torch.rand(1), expected)


def test_mu_zero_is_fedavg_bit_for_bit_and_mu_above_is_not():
    assert torch.equal(flat(fit(mu=0.0)[0]), flat(fit()[0]))
    assert not torch.equal(flat(fit(mu=0.1)[0]), flat(fit()[0]))


def test_the_proximal_term_is_the_gradient_of_half_mu_times_the_squared_distance():
    """One full-batch step of plain SGD at a time, against autograd on F(w) + mu/2 |w - w0|^2 written out."""
    task, data = NoFrills({}), points(0, 16)
    model, reference = nn.Linear(4, 2), nn.Linear(4, 2)
    reference.load_state_dict(model.state_dict())
    anchor = [p.detach().clone() for p in reference.parameters()]
    fit(task=task, model=model, dataset=data, mu=0.7, epochs=3, batch_size=16)
    for _ in range(3):
        distance = sum(((p - a) ** 2).sum() for p, a in zip(reference.parameters(), anchor, strict=True))
        loss = task.loss(reference(data.tensors[0]), data.tensors[1]) + 0.7 / 2 * distance
        for p, grad in zip(
            reference.parameters(), torch.autograd.grad(loss, list(reference.parameters())), strict=True
        ):
            p.data -= 0.1 * grad
    torch.testing.assert_close(flat(model), flat(reference), rtol=1e-6, atol=1e-6)


def test_a_strong_proximal_term_keeps_the_model_near_its_base():
    base = torch.nn.utils.parameters_to_vector(build().parameters())
    near, far = (torch.nn.utils.parameters_to_vector(fit(mu=mu)[0].parameters()) for mu in (5.0, 0.0))
    assert (near - base).norm() < 0.5 * (far - base).norm()


class NoFrills(Points):
    def build_model(self):
        return nn.Linear(4, 2)


def test_clipping_bounds_each_step():
    before = torch.nn.utils.parameters_to_vector(build().parameters())
    model, trained = fit(gradient_clip_norm=0.01, epochs=1)
    after = torch.nn.utils.parameters_to_vector(model.parameters())
    assert (after - before).norm() <= trained.steps * 0.1 * 0.01 * (1 + 1e-4)
    assert (after - before).norm() > 0


def test_every_pass_takes_every_example_once():
    _, trained = fit(epochs=3, batch_size=10)
    assert (trained.examples, trained.steps) == (48, 15)


def test_the_time_budget_stops_early_and_says_how_many_steps_were_done():
    _, trained = fit(epochs=10, training={"deadline": 5.5})  # a reading a second; none before the first step
    assert trained.steps == 6
    assert not trained.stopped
    assert math.isfinite(trained.metrics["loss"])


def test_somebody_out_of_time_from_the_start_does_one_step():
    assert fit(training={"deadline": 0.0})[1].steps == 1


@pytest.mark.parametrize(("limit", "steps"), [(4, 4), (6, 6), (100, 6)])
def test_max_steps(limit, steps):
    assert fit(max_steps=limit)[1].steps == steps


@pytest.mark.parametrize("steps", [1, 6, 20])
def test_a_client_does_the_steps_that_it_is_given_in_as_many_passes_as_it_takes(steps):
    """Of the job's own settings it would do six (mode SemiSynchronous)."""
    assert fit(training={"steps": steps})[1].steps == steps


def test_withdrawn_work_stops_at_the_next_batch():
    answers = iter([False, False, True, True])
    _, trained = fit(training={"should_stop": lambda: next(answers)})
    assert (trained.steps, trained.stopped) == (2, True)


def test_a_loss_that_is_not_finite_is_blamed_on_the_learning_rate():
    with seeded(0, CPU):
        model = nn.Linear(4, 2)
    with pytest.raises(TaskError, match=r"spec\.local\.learningRate 3e\+38 is the likely cause"):
        fit(learning_rate=3e38, epochs=5, task=NoFrills({}), model=model)


def test_frozen_parameters_stay():
    model = build()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    fit(model=model, mu=0.1)
    assert torch.equal(model[0].weight, before)


def test_nothing_to_train_is_said():
    with pytest.raises(TaskError, match="no parameter requires a gradient"):
        fit(model=build().requires_grad_(False))


def test_an_empty_data_set_is_said():
    with pytest.raises(TaskError, match="empty"):
        fit(dataset=points(0, 0))


def test_a_last_batch_of_one_does_not_break_batch_norm():
    assert fit(dataset=points(0, 33), epochs=1)[1].steps == 2


@pytest.mark.parametrize(
    ("name", "kind"), [("SGD", torch.optim.SGD), ("Adam", torch.optim.Adam), ("AdamW", torch.optim.AdamW)]
)
def test_optimisers(name, kind):
    settings = Optimizer(type=name, momentum=0.9, weight_decay=0.01)
    optimizer = build_optimizer(settings, list(nn.Linear(2, 2).parameters()), 0.3)
    group = optimizer.param_groups[0]
    assert type(optimizer) is kind
    assert (group["lr"], group["weight_decay"]) == (0.3, 0.01)
    assert group.get("momentum", 0.9) == 0.9


class Listed(Dataset):
    """A general data set."""

    def __init__(self, pairs):
        self.pairs = list(pairs)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        return self.pairs[index]


def test_a_general_data_set_trains_like_tensors_do():
    listed, tensors = fit(dataset=Listed(points(0, 48)))[0], fit()[0]
    torch.testing.assert_close(flat(listed), flat(tensors))


def test_examples_that_are_not_pairs_are_said():
    with pytest.raises(TaskError, match="pair"):
        fit(dataset=Listed([(torch.zeros(4), 1, 2)]))


def test_evaluation_weights_batches_by_their_size():
    model, data = build().eval(), points(3, 300)  # a batch of 256 and one of 44
    with torch.inference_mode():
        outputs = model(data.tensors[0])
    whole = evaluate(Points({}), model, data, CPU)
    assert whole.examples == 300
    assert whole.metrics["accuracy"] == pytest.approx((outputs.argmax(1) == data.tensors[1]).double().mean().item())
    assert whole.metrics["loss"] == pytest.approx(nn.functional.cross_entropy(outputs, data.tensors[1]).item())


def test_evaluation_changes_nothing():
    model = build()
    before = flat(model).clone()
    evaluate(Points({}), model, points(3, 300), CPU)
    assert torch.equal(flat(model), before)


def test_a_union_of_tensor_pairs_stays_one():
    both = union([points(0, 3), points(1, 4)])
    assert isinstance(both, TensorDataset)
    assert len(both) == 7
    assert isinstance(union([points(0, 3), Listed(points(1, 4))]), ConcatDataset)


def test_batches_in_order_without_a_generator():
    seen = [batch[1].tolist() for batch in batches(points(0, 5), 2, CPU, shuffle=None)()]
    assert seen == [[0, 1], [0, 1], [0]]


def test_where_losses_of_single_examples_are_wanted_their_root_mean_square_is_reported():
    from torch.nn.functional import cross_entropy

    dataset, model = points(0, 48), nn.Linear(4, 2)
    with torch.no_grad():  # one step over everything: the losses are those of the model before it
        each = cross_entropy(model(dataset.tensors[0]), dataset.tensors[1], reduction="none")
    _, trained = fit(model=model, dataset=dataset, batch_size=48, epochs=1, training={"wants_losses": True})
    assert trained.metrics["lossRms"] == pytest.approx(each.square().mean().sqrt().item(), rel=1e-5)
    assert trained.metrics["lossRms"] > trained.metrics["loss"]
    assert "lossRms" not in fit()[1].metrics


def test_the_gradients_variance_is_that_of_all_steps_gradients():
    """Against gradients taken one by one along the same way: plain SGD's are what it moved by."""
    task, data = NoFrills({}), points(0, 48)
    model = nn.Linear(4, 2)
    reference = nn.Linear(4, 2)
    reference.load_state_dict(model.state_dict())
    _, trained = fit(
        task=task, model=model, dataset=data, epochs=2, batch_size=16, training={"measures_gradient_variance": True}
    )
    gradients, now = [], torch.cat([p.detach().flatten() for p in reference.parameters()]).double()
    for steps in range(1, 7):
        model = nn.Linear(4, 2)
        model.load_state_dict(reference.state_dict())
        fit(task=task, model=model, dataset=data, epochs=2, batch_size=16, max_steps=steps)
        after = torch.cat([p.detach().flatten() for p in model.parameters()]).double()
        gradients.append((now - after) / 0.1)
        now = after
    stacked = torch.stack(gradients)
    expected = ((stacked - stacked.mean(dim=0)) ** 2).sum() / 5
    assert trained.steps == 6
    assert trained.metrics["gradientVariance"] == pytest.approx(expected.item(), rel=1e-4)


def test_one_gradient_has_no_variance():
    wanted = {"measures_gradient_variance": True}
    assert "gradientVariance" not in fit(max_steps=1, training=wanted)[1].metrics
    assert "gradientVariance" in fit(max_steps=2, training=wanted)[1].metrics
    assert "gradientVariance" not in fit()[1].metrics


def test_measuring_gradients_changes_nothing_else():
    assert torch.equal(flat(fit()[0]), flat(fit(training={"measures_gradient_variance": True})[0]))
