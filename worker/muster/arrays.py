"""Between a torch model and the flat buffers of the wire: which tensors travel, as what kind, and how they come back.

Tensors have kinds, because they may not all be treated alike: parameters that are trained, parameters that are frozen,
float buffers (a batch norm's running statistics), integer buffers (its counter), and private ones, which appear in no
layout and never leave the client. A parameter that two modules share counts once, by its first name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from muster.errors import TaskError
from muster_wire.errors import LayoutError
from muster_wire.layout import INTEGER_DTYPES, Kind, Layout, TensorSpec
from muster_wire.values import Values

IsPrivate = Callable[[str], bool]


def layout_of(model: nn.Module, private: IsPrivate) -> Layout:
    """The tensors that travel, in the order of the model's ``state_dict``.

    Raises:
        TaskError: the model holds something that can't travel.
    """
    tensors = [(name, tensor) for name, tensor in _tensors(model) if not private(name)]
    try:
        return Layout(tuple(TensorSpec(n, tuple(t.shape), _dtype(t), _kind(t)) for n, t in tensors))
    except LayoutError as error:
        raise TaskError(f"build_model: {error}") from error


def read_values(model: nn.Module, layout: Layout) -> Values:
    """A copy of the model's numbers, as float32 and int64."""
    return Values.gather(layout, {name: _array(tensor) for name, tensor in _tensors(model)})


def load_values(model: nn.Module, values: Values) -> None:
    """Put numbers into a model of the same layout; private tensors stay as they are."""
    state = dict(_tensors(model))
    with torch.no_grad():
        for spec, view in values.tensors():
            _put(state[spec.name], view)


def read_private(model: nn.Module, private: IsPrivate) -> dict[str, Tensor]:
    """Copies of the tensors that never leave this client."""
    return {name: tensor.detach().cpu().clone() for name, tensor in _tensors(model) if private(name)}


def load_private(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put a client's private tensors back, if it has any yet.

    Raises:
        TaskError: the client's state was left by a different model.
    """
    state = dict(_tensors(model))
    with torch.no_grad():
        for name, tensor in tensors.items():
            if name not in state or state[name].shape != tensor.shape:
                raise TaskError(
                    f"{name}: the client's saved state is of another model; give the job a new --state folder"
                )
            state[name].copy_(tensor)


def check_layout(ours: Layout, theirs: Layout) -> None:
    """Compare the layout that this task builds with the one that the coordinator sent, which is the one that counts.

    Names, shapes and whether a tensor holds floats have to agree, and what is trained here must not be frozen there.
    Order, width and the other kinds may differ: a first model that the user brought as a file knows nothing of them.

    Raises:
        TaskError: they differ; the message names the first tensor that does.
    """
    mine, others = ({spec.name: spec for spec in layout.tensors} for layout in (ours, theirs))
    for name in dict.fromkeys((*mine, *others)):
        if not _fits(mine.get(name), others.get(name)):
            raise TaskError(
                f"the coordinator's model is not the one this task builds: it has {_said(others.get(name))} where the"
                f" task has {_said(mine.get(name))}; the code, spec.task.config and the first model have to be the same"
                " everywhere"
            )


def _fits(ours: TensorSpec | None, theirs: TensorSpec | None) -> bool:
    """Whether the coordinator's tensor can be this one. What the task trains, the coordinator must not hold frozen."""
    if ours is None or theirs is None:
        return False
    lost = ours.kind is Kind.TRAINABLE and theirs.kind is Kind.FROZEN
    return (
        ours.shape == theirs.shape and (ours.dtype in INTEGER_DTYPES) == (theirs.dtype in INTEGER_DTYPES) and not lost
    )


def _said(spec: TensorSpec | None) -> str:
    return f"{spec.name} {list(spec.shape)} {spec.dtype} ({spec.kind.value})" if spec else "no such tensor"


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor):
            raise TaskError(f"build_model: {name} in state_dict is a {type(tensor).__name__}; only tensors can travel")
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor


def _kind(tensor: Tensor) -> Kind:
    if isinstance(tensor, nn.Parameter):
        return Kind.TRAINABLE if tensor.requires_grad else Kind.FROZEN
    return Kind.FLOAT_BUFFER if tensor.is_floating_point() else Kind.INTEGER_BUFFER


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _array(tensor: Tensor) -> NDArray[Any]:
    wide = torch.float32 if tensor.is_floating_point() else torch.int64
    array: NDArray[Any] = tensor.detach().to("cpu", wide).numpy()
    return array


def _put(tensor: Tensor, view: NDArray[Any]) -> None:
    """Overwrite a tensor; by numpy where that can: torch warns of arrays that are read-only, as fetched models are."""
    if tensor.device.type == "cpu" and tensor.dtype is not torch.bfloat16:
        np.copyto(tensor.detach().numpy(), view, casting="unsafe")
    else:
        tensor.copy_(torch.from_numpy(np.array(view)))
