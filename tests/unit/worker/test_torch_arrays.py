import numpy as np
import pytest
import torch
from torch import nn

from muster.arrays import check_layout, layout_of, load_private, load_values, read_private, read_values
from muster.errors import TaskError
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.values import Values, difference


def nothing(_name):
    return False


def kinds(model, private=nothing):
    return {spec.name: spec.kind for spec in layout_of(model, private).tensors}


def test_kinds():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model[0].bias.requires_grad_(False)
    assert kinds(model) == {
        "0.weight": Kind.TRAINABLE,
        "0.bias": Kind.FROZEN,
        "1.weight": Kind.TRAINABLE,
        "1.bias": Kind.TRAINABLE,
        "1.running_mean": Kind.FLOAT_BUFFER,
        "1.running_var": Kind.FLOAT_BUFFER,
        "1.num_batches_tracked": Kind.INTEGER_BUFFER,
    }


def test_private_tensors_are_in_no_layout():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    assert list(kinds(model, lambda name: name.startswith("1."))) == ["0.weight", "0.bias"]


def test_a_tied_parameter_counts_once():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    layout = layout_of(model, nothing)
    assert [spec.name for spec in layout.tensors] == ["0.weight"]
    values = Values.zeros(layout)
    load_values(model, values)
    assert not model[1].weight.any()


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.f16 = nn.Parameter(torch.tensor([1.5, -2.25], dtype=torch.float16))
        self.bf16 = nn.Parameter(torch.tensor([[0.5, 3.0]], dtype=torch.bfloat16))
        self.f64 = nn.Parameter(torch.tensor(0.25, dtype=torch.float64))
        self.register_buffer("mask", torch.tensor([True, False, True]))
        self.register_buffer("small", torch.tensor([-3], dtype=torch.int8))
        self.register_buffer("hidden", torch.tensor([9.0]), persistent=False)


def test_every_dtype_goes_there_and_back():
    model, other = Mixed(), Mixed()
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.zero_()
    layout = layout_of(model, nothing)
    assert {spec.name: spec.dtype for spec in layout.tensors} == {
        "f16": "float16",
        "bf16": "bfloat16",
        "f64": "float64",
        "mask": "bool",
        "small": "int8",
    }
    load_values(other, read_values(model, layout).sealed())
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
        assert other.state_dict()[name].dtype == tensor.dtype


def test_values_are_copies():
    model = nn.Linear(2, 2)
    values = read_values(model, layout_of(model, nothing))
    before = values.trainable.copy()
    with torch.no_grad():
        model.weight += 1
    np.testing.assert_array_equal(values.trainable, before)


def test_base_plus_update_is_the_local_model_within_an_ulp():
    torch.manual_seed(0)
    base, local = nn.Linear(40, 30), nn.Linear(40, 30)
    layout = layout_of(base, nothing)
    start, end = read_values(base, layout), read_values(local, layout)
    update = difference(end, start)
    error = np.abs(start.trainable + update.trainable - end.trainable)
    assert (error <= np.spacing(np.maximum(np.abs(start.trainable), np.abs(end.trainable)))).all()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (nn.Linear(3, 5), r"0\.weight|weight \[5, 3\] float32 \(trainable\) where the task has weight \[4, 3\]"),
        (nn.Linear(3, 4, bias=False), r"no such tensor where the task has bias \[4\]"),
        (nn.Linear(3, 4).requires_grad_(False), "frozen"),
    ],
)
def test_a_mismatch_names_the_first_tensor(other, said):
    with pytest.raises(TaskError, match=said):
        check_layout(layout_of(nn.Linear(3, 4), nothing), layout_of(other, nothing))


def test_equal_layouts_pass_through_json():
    layout = layout_of(Mixed(), nothing)
    check_layout(layout, Layout.from_json(layout.to_json()))


def test_private_state_comes_back():
    def private(name):
        return name == "bias"

    model, fresh = nn.Linear(2, 2), nn.Linear(2, 2)
    state = read_private(model, private)
    load_private(fresh, state)
    assert list(state) == ["bias"]
    assert torch.equal(fresh.bias, model.bias)
    with pytest.raises(TaskError, match="another model"):
        load_private(nn.Linear(2, 3), state)


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.phase = nn.Parameter(torch.zeros(2, dtype=torch.complex64))


class Extra(nn.Linear):
    def get_extra_state(self):
        return {"anything": 1}


@pytest.mark.parametrize(("model", "said"), [(Complex(), "phase"), (Extra(1, 1), "only tensors can travel")])
def test_what_cannot_travel_is_said(model, said):
    with pytest.raises(TaskError, match=said):
        layout_of(model, nothing)


def test_a_first_model_from_a_file_may_have_another_order_width_and_kind() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    ours = layout_of(model, nothing)
    foreign = Layout(tuple(TensorSpec(t.name, t.shape, t.dtype, _guessed(t)) for t in reversed(ours.tensors)))
    check_layout(ours, foreign)
    values = read_values(model, foreign)
    load_values(model, values)
    assert read_values(model, foreign).digest() == values.digest()


def _guessed(spec: TensorSpec) -> Kind:
    return spec.kind if spec.kind is Kind.INTEGER_BUFFER else Kind.TRAINABLE


def test_a_tensor_of_another_shape_or_of_integers_is_not_the_tasks() -> None:
    ours = Layout((TensorSpec("w", (2,), "float32", Kind.TRAINABLE),))
    with pytest.raises(TaskError, match="w \\[3\\]"):
        check_layout(ours, Layout((TensorSpec("w", (3,), "float32", Kind.TRAINABLE),)))
    with pytest.raises(TaskError, match="int64"):
        check_layout(ours, Layout((TensorSpec("w", (2,), "int64", Kind.INTEGER_BUFFER),)))
