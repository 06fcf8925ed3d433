"""A client's half of SCAFFOLD: what its steps are corrected by, and what its own variate is afterwards.

The variate is a client's state like any other: it is kept with an update until the round's commit says that the update
was used, moves only then, and lies in the client's state under a name that no tensor of a model has.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from muster.errors import DataError
from muster_wire.control import CONTROL
from muster_wire.layout import Kind
from muster_wire.values import Floats, Values

State = Mapping[str, Tensor]


def with_variate(state: State, variate: Floats) -> State:
    """The state with this variate in it."""
    return {**state, CONTROL: torch.from_numpy(variate)}


def variate_of(state: State, size: int) -> Floats | None:
    """The variate c_i; None if there is none yet, or none any more.

    Raises:
        DataError: it was left by a different model.
    """
    tensor = state.get(CONTROL)
    if tensor is None:
        return None
    if tensor.shape != (size,):
        raise DataError(
            f"the client's saved variate is of another model: {tensor.numel()} values and not {size}; give the job a "
            "new --state folder"
        )
    variate: Floats = tensor.numpy()
    return variate


def corrections(state: State, base: Values) -> dict[str, Tensor]:
    """What such a state has under the variate's name, by names of the model's trainable tensors, in their shapes."""
    layout = base.layout
    flat = variate_of(state, layout.trainable_size)
    if flat is None:
        return {}
    trainable = [span for span in layout.spans if span.spec.kind is Kind.TRAINABLE]
    return {s.spec.name: torch.from_numpy(flat[s.start : s.stop].reshape(s.spec.shape)) for s in trainable}


def variate_after(variate: Floats, control: Floats, sent: Values, steps: int, rate: float) -> Floats:
    """c_i - c + (x - y) / (K η): Karimireddy et al. 2020, algorithm 1, option II, of y - x as the server decodes it."""
    after: Floats = variate - control - sent.trainable / np.float32(max(steps, 1) * rate)
    return after
