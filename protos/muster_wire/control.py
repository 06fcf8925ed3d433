"""The server's control variate travels with the model: one more tensor of a snapshot, which no update carries back.

SCAFFOLD's clients need, beside the model, one number for each trainable value of it. They go out as a frozen tensor of
a name of its own: frozen tensors are float32 under every codec, and the version's digest covers them, so that model and
variate can't come from different rounds.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.values import Floats, Values

CONTROL: Final = "muster.control"


def with_control(model: Values, control: Floats) -> Values:
    """The model, and last of its tensors the variate."""
    spec = TensorSpec(CONTROL, (control.size,), "float32", Kind.FROZEN)
    layout = Layout((*model.layout.tensors, spec), model.layout.groups)
    frozen = np.concatenate([model.frozen, control]) if model.frozen.size else control
    return Values(layout, model.trainable, model.float_buffers, model.integers, frozen)


def has_control(layout: Layout) -> bool:
    """Whether a version of this layout carries a variate."""
    return bool(layout.tensors) and layout.tensors[-1].name == CONTROL


def split_control(version: Values) -> tuple[Values, Floats | None]:
    """A version as it came, apart: the model, and the variate if there is one."""
    if not has_control(version.layout):
        return version, None
    layout = Layout(version.layout.tensors[:-1], version.layout.groups)
    frozen, control = version.frozen[: layout.frozen_size], version.frozen[layout.frozen_size :]
    return Values(layout, version.trainable, version.float_buffers, version.integers, frozen), control
