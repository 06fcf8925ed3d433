"""A client's variate: what it corrects, what it becomes, and that it moves with nothing but a commit."""

import numpy as np
import pytest
import torch
from small_task import points
from test_local_training import NoFrills, fit, flat
from torch import nn

from muster.client_state import of_model
from muster.errors import DataError
from muster.variates import corrections, variate_after, variate_of, with_variate
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.values import Values

LAYOUT = Layout(
    (
        TensorSpec("weight", (2, 2), "float32", Kind.TRAINABLE),
        TensorSpec("mean", (2,), "float32", Kind.FLOAT_BUFFER),
        TensorSpec("bias", (1,), "float32", Kind.TRAINABLE),
    )
)
FIVE = np.arange(5, dtype=np.float32)


def test_each_step_is_corrected():
    """Against plain steps of a model whose loss has the correction in it: its gradient is the correction."""
    model, reference = nn.Linear(4, 2), nn.Linear(4, 2)
    reference.load_state_dict(model.state_dict())
    shift = {name: torch.full_like(p, 0.25) for name, p in model.named_parameters()}
    data = points(0, 16)
    fit(task=NoFrills({}), model=model, dataset=data, epochs=3, batch_size=16, training={"correction": shift})
    for _ in range(3):
        loss = NoFrills({}).loss(reference(data.tensors[0]), data.tensors[1])
        loss = loss + sum(0.25 * p.sum() for p in reference.parameters())
        for p, grad in zip(
            reference.parameters(), torch.autograd.grad(loss, list(reference.parameters())), strict=True
        ):
            p.data -= 0.1 * grad
    torch.testing.assert_close(flat(model), flat(reference), rtol=1e-6, atol=1e-6)


def test_clipping_bounds_the_gradient_and_not_the_correction():
    model = nn.Linear(4, 2)
    before = flat(model)
    shift = {name: torch.full_like(p, 5.0) for name, p in model.named_parameters()}
    training = {"correction": shift}
    fit(task=NoFrills({}), model=model, dataset=points(0, 16), batch_size=16, epochs=1, gradient_clip_norm=1e-6,
        training=training)  # fmt: skip
    assert (before - flat(model)).tolist() == pytest.approx([0.1 * 5.0] * 10, rel=1e-4)


def test_a_parameter_without_a_gradient_is_corrected_too():
    class Spare(nn.Linear):
        def __init__(self):
            super().__init__(4, 2)
            self.spare = nn.Parameter(torch.zeros(2))

    model = Spare()
    training = {"correction": {"spare": torch.tensor([1.0, -2.0])}}
    fit(task=NoFrills({}), model=model, dataset=points(0, 16), batch_size=16, epochs=2, training=training)
    assert model.spare.tolist() == pytest.approx([-0.2, 0.4])


def test_corrections_have_the_parameters_names_and_shapes():
    found = corrections(with_variate({"mine": torch.zeros(1)}, FIVE), Values.zeros(LAYOUT))
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "weight": [[0.0, 1.0], [2.0, 3.0]],
        "bias": [4.0],
    }
    assert corrections({"mine": torch.zeros(1)}, Values.zeros(LAYOUT)) == {}


def test_the_next_variate_is_option_2():
    sent = Values.zeros(LAYOUT, frozen=False)
    sent.trainable[...] = [1, 2, 3, 4, 5]
    after = variate_after(FIVE, np.full(5, 0.5, np.float32), sent, steps=4, rate=0.25)
    assert after.tolist() == [0 - 0.5 - 1, 1 - 0.5 - 2, 2 - 0.5 - 3, 3 - 0.5 - 4, 4 - 0.5 - 5]


def test_a_variate_lies_beside_the_clients_own_state():
    own = {"mine": torch.ones(2)}
    state = with_variate(own, FIVE)
    assert of_model(state) == own
    assert variate_of(state, 5).tolist() == FIVE.tolist()
    assert variate_of(own, 5) is None
    with pytest.raises(DataError, match="5 values and not 4"):
        variate_of(state, 4)
