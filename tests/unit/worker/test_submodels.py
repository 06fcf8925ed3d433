"""Which units go together, and parts of a model that compute what the whole would without the rest."""

import copy

import pytest
import torch
from small_task import Points, client, work
from torch import nn
from torch.nn import functional as F  # noqa: N812

from muster import Group, Member, TaskError
from muster.orders import SubModel
from muster.submodels import Shrinker, groups_of
from muster.tracing import trace
from muster.workshop import Hooks, Workshop
from muster_wire.groups import groups_digest
from muster_wire.submodel import Draw

GOLDEN_UNITS = Draw(seed=3, number=1, masks=3, keep=0.5)


class Residual(nn.Module):
    """Two convolutions with batch norms, and what came in added at the end."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after)
        self.second, self.last = nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.last(self.second(F.relu(self.norm(self.first(x)))))
        return torch.relu(inner + self.skip(x))


class Images(nn.Module):
    """A small residual network; `ending` is how maps become features."""

    def __init__(self, ending: str = "flatten") -> None:
        super().__init__()
        self.ending = ending
        self.stem, self.one, self.two = nn.Conv2d(1, 6, 3, padding=1), Residual(6, 6), Residual(6, 10)
        self.depthwise = nn.Conv2d(10, 10, 3, padding=1, groups=10)
        places = 1 if ending == "mean" else 4
        self.norm, self.head = nn.BatchNorm1d(10 * places), nn.Linear(10 * places, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(self.depthwise(self.two(self.one(self.stem(x)))), 2)
        match self.ending:
            case "flatten":
                x = torch.flatten(x, 1)
            case "view":
                x = x.view(x.size(0), -1)
            case "reshape":
                x = x.reshape((x.shape[0], -1))
            case _:
                x = x.mean(dim=(2, 3))
        return self.head(self.norm(x))


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(16, 12), nn.BatchNorm1d(12), nn.Sigmoid(), nn.Linear(12, 7), nn.GELU(), nn.Linear(7, 3)
    )


class OneModel(Points):
    """A task of one model, perhaps with groups or private tensors of its own."""

    def __init__(self, model, groups=None, private=()):
        super().__init__({})
        self.model, self.groups, self.secret = model, groups, private

    def build_model(self):
        return self.model

    def droppable(self):
        return self.groups

    def private(self, name):
        return name.startswith(tuple(self.secret)) if self.secret else False


def shrunk(model, task=None, draw=GOLDEN_UNITS):
    """A part of a model, with the shrinker and the part that made it."""
    shrinker = Shrinker(model, task or OneModel(model))
    part = shrinker.part(SubModel(draw, groups_digest(shrinker.layout.groups)))
    smaller = copy.deepcopy(model)
    shrinker.shrink(smaller, part)
    return smaller, shrinker, part


def without_the_rest(model, shrinker, part):
    """The whole model, where whoever reads units that are not in the part reads zeros, and the others scaled up."""
    masked = copy.deepcopy(model)
    state = masked.state_dict()
    for group, units in zip(shrinker.layout.groups, part.units, strict=True):
        for member in group.members:
            if member.axis == 1:
                factors = torch.zeros(group.units, member.repeat)
                factors[torch.from_numpy(units)] = group.units / len(units)
                shape = [1, -1] + [1] * (state[member.tensor].dim() - 2)
                state[member.tensor].mul_(factors.reshape(shape))
    return masked


MODELS = [mlp, *(lambda ending=ending: Images(ending) for ending in ("flatten", "view", "reshape", "mean"))]


@pytest.mark.parametrize("build", MODELS, ids=["mlp", "flatten", "view", "reshape", "mean"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_part_computes_what_the_whole_would_without_the_rest(build, mode):
    torch.manual_seed(0)
    model = build()
    model(torch.randn(8, 1, 4, 4))  # running statistics that are not zero and one
    smaller, shrinker, part = shrunk(model)
    masked = without_the_rest(model, shrinker, part)
    inputs = torch.randn(5, 1, 4, 4)
    for each in (smaller, masked):
        each.train(mode == "train")
    torch.testing.assert_close(smaller(inputs), masked(inputs), rtol=1e-4, atol=1e-5)
    assert sum(each.numel() for each in smaller.parameters()) < 0.6 * sum(each.numel() for each in model.parameters())


def test_layers_know_their_new_sizes():
    smaller, _, part = shrunk(Images())
    assert part.units[0].size == 3
    assert (smaller.stem.in_channels, smaller.stem.out_channels) == (1, 3)
    assert (smaller.one.norm.num_features, smaller.norm.num_features) == (3, 20)
    assert (smaller.depthwise.groups, smaller.depthwise.in_channels) == (5, 5)
    assert (smaller.head.in_features, smaller.head.out_features) == (20, 3)
    assert smaller.one.norm.running_mean.shape == (3,)


def said(model):
    return [
        (group.units, *(f"{member.tensor}[{member.axis}]" for member in group.members)) for group in trace(model).groups
    ]


def test_a_residual_connection_couples_what_it_adds():
    stem, inner, *_ = said(Images())
    assert stem[0] == inner[0] == 6
    assert {"stem.weight[0]", "one.second.weight[0]", "one.last.running_var[0]", "two.skip.weight[1]"} <= set(stem)
    assert inner[1:4] == ("one.first.weight[0]", "one.first.bias[0]", "one.norm.weight[0]")
    assert inner[-1] == "one.second.weight[1]"


def test_what_comes_in_and_goes_out_stays_whole():
    assert said(nn.Sequential(nn.Linear(4, 8))) == []
    axes = {axis for _, *axes in said(mlp()) for axis in axes}
    assert not axes & {"1.weight[1]", "6.weight[0]", "6.bias[0]"}


def test_a_layer_used_twice_and_a_shared_weight_are_one():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.inner, self.down = nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 3)
            self.other = nn.Linear(5, 5)
            self.other.weight = self.inner.weight

        def forward(self, x):
            return self.down(self.other(self.inner(self.inner(self.up(x)))))

    ((units, *axes),) = said(Twice())
    assert units == 5
    assert {"up.weight[0]", "inner.weight[0]", "inner.weight[1]", "other.bias[0]", "down.weight[1]"} <= set(axes)
    smaller, _, _ = shrunk(Twice())
    assert smaller.other.weight is smaller.inner.weight
    assert smaller(torch.zeros(2, 3)).shape == (2, 3)


class Branching(nn.Module):
    """Can't be followed: where it goes depends on a value."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x):
        return self.inner(x) if x.sum() > 0 else x


def spectral():
    """A layer whose weight is made anew by a hook, before each use."""
    layer = nn.Linear(6, 6)
    weight = layer.weight
    del layer._parameters["weight"]
    layer.weight_of_hook = weight
    layer.weight = weight.detach() * 2
    layer.register_forward_pre_hook(lambda module, _: setattr(module, "weight", module.weight_of_hook * 2))
    return layer


@pytest.mark.parametrize(
    ("middle", "found"),
    [
        (nn.LayerNorm(6), 1),
        (Branching(), 1),
        (nn.Softmax(dim=1), 1),
        (nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)), 1),
        (spectral(), 1),
        (nn.ReLU(), 2),
    ],
    ids=["layer norm", "branching", "softmax", "parametrized", "weight made by a hook", "relu"],
)
def test_what_is_not_known_stays_whole_and_the_rest_gets_smaller(middle, found):
    model = nn.Sequential(nn.Linear(4, 6), middle, nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 2))
    assert len(said(model)) == found
    smaller, shrinker, part = shrunk(model)
    inputs = torch.randn(3, 4)
    torch.testing.assert_close(smaller(inputs), without_the_rest(model, shrinker, part)(inputs))


def test_features_of_sequences_are_not_mistaken_for_channels():
    """Flattening (examples, steps, features) puts features side by side, not the steps of one feature."""
    steps = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
    assert said(steps) == []
    convolved = nn.Sequential(nn.Conv1d(2, 6, 1), nn.Linear(3, 3), nn.Flatten(), nn.Linear(18, 2))
    assert said(convolved) == []


@pytest.mark.parametrize("way", ["turned", "scaled by its width", "cut", "joined", "reshaped"])
def test_ways_that_depend_on_the_number_of_units_keep_it(way):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 6), nn.Linear(12 if way == "joined" else 6, 2)

        def forward(self, x):
            x = self.one(x)
            match way:
                case "turned":
                    x = x.T.T
                case "scaled by its width":
                    x = x * x.size(1)
                case "cut":
                    x = x[:, torch.arange(6)]
                case "joined":
                    x = torch.cat([x, x], 1)
                case _:
                    x = x.view(-1, 6)
            return self.two(x)

    assert said(Odd()) == []


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_model_that_cannot_be_followed_is_refused_with_its_name_and_the_remedy():
    with pytest.raises(TaskError, match=r"Branching\.forward can't be followed.*Task\.droppable"):
        groups_of(OneModel(Branching()), Branching())


def test_a_model_of_which_nothing_can_be_left_out_says_where_the_trail_was_lost():
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2))
    with pytest.raises(TaskError, match=r"the trail was lost at 1 \(LayerNorm\).*Task\.droppable"):
        groups_of(OneModel(model), model)


def test_groups_that_a_task_declares_are_taken_as_they_are():
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2))
    members = [Member("0.weight", 0), Member("0.bias", 0), Member("1.weight", 0), Member("1.bias", 0)]
    declared = [Group(6, [*members, Member("2.weight", 1)])]
    shrinker = Shrinker(model, OneModel(model, declared))
    assert shrinker.layout.groups == (Group(6, tuple(declared[0].members)),)
    with pytest.raises(TaskError, match=r"droppable.*are not the 6 of axis 0"):
        Shrinker(model, OneModel(model, [Group(5, [Member("0.weight", 0)])]))


def test_units_of_another_model_are_refused():
    shrinker = Shrinker(mlp(), OneModel(mlp()))
    with pytest.raises(TaskError, match="not those of the coordinator's model"):
        shrinker.part(SubModel(GOLDEN_UNITS, groups_digest(Shrinker(Images(), OneModel(Images())).layout.groups)))


# --- private tensors --------------------------------------------------------------------------------------------------


def test_private_tensors_get_smaller_and_come_back_whole():
    model = mlp()
    smaller, shrinker, part = shrunk(model, OneModel(model, private=("2.",)))
    assert not any(spec.name.startswith("2.") for spec in shrinker.layout.tensors)
    assert smaller[2].running_mean.shape == (6,)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith("2.")}
    trained = {name: tensor + 1 for name, tensor in smaller.state_dict().items() if name.startswith("2.")}
    after = shrinker.private_after(before, trained, part)
    kept = torch.zeros(12, dtype=torch.bool)
    kept[torch.from_numpy(part.units[0])] = True
    torch.testing.assert_close(after["2.running_var"], before["2.running_var"] + kept)
    assert after["2.num_batches_tracked"] == before["2.num_batches_tracked"] + 1


def test_only_private_units_are_never_left_out():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    smaller, shrinker, _ = shrunk(model, OneModel(model, private=("2.", "4.")))
    assert [group.units for group in shrinker.layout.groups] == [6]
    assert smaller[4].in_features == 5


def test_a_workshop_trains_the_part_and_keeps_what_is_private_whole():
    shop = Workshop(work({"private": True}))
    first = shop.initialise(3, with_groups=True)
    (group,) = first.layout.groups
    part = shop.part(SubModel(GOLDEN_UNITS, groups_digest(first.layout.groups)))
    trainee = shop.train(client(), part.take(first), {}, 5, Hooks(lambda: False, lambda _: None), part)
    assert trainee.update.layout == part.layout
    assert group.units == 8
    assert trainee.update.trainable.any()
    again = shop.train(client(), part.take(first), trainee.state_after, 6, Hooks(lambda: False, lambda _: None), part)
    before, after = trainee.state_after["4.weight"], again.state_after["4.weight"]
    assert before.shape == after.shape == (2, 8)
    touched = torch.zeros(8, dtype=torch.bool)
    touched[torch.from_numpy(part.units[0])] = True
    assert torch.equal(before[:, ~touched], after[:, ~touched])
    assert not torch.equal(before[:, touched], after[:, touched])
    with pytest.raises(TaskError, match="not the one this task builds"):
        shop.train(client(), first, {}, 5, Hooks(lambda: False, lambda _: None), part)
