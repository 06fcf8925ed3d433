"""Parts of a model, as modules that really are smaller: fewer neurons and channels to store, compute and send.

The parameters and buffers of the whole are sliced where a group's units run, and the layers told their new sizes, so
that a task trains what it is given as it trains the whole. A part computes what the whole would if the other units gave
zero and the rest were scaled up to make good for them: what reads a group of which k of n units are left multiplies its
input by n / k, as inverted dropout does (docs/decisions say what that is worth).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from muster.arrays import IsPrivate, layout_of
from muster.errors import TaskError
from muster.orders import SubModel
from muster.task import Task
from muster.tracing import REMEDY, trace
from muster_wire.errors import LayoutError
from muster_wire.groups import Group, Groups, groups_digest
from muster_wire.layout import Layout
from muster_wire.submodel import Part, Places, part_of, places_of

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_READERS = (nn.Linear, *_CONVOLUTIONS)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def groups_of(task: Task, model: nn.Module) -> Groups:
    """Which units go together: as the task declares it, or as the model's forward pass shows it.

    Raises:
        TaskError: nothing of this model can be left out.
    """
    declared = task.droppable()
    if declared is not None:
        groups = tuple(Group(each.units, tuple(each.members)) for each in declared)
        lost: tuple[str, ...] = ()
    else:
        traced = trace(model)
        groups, lost = traced.groups, traced.lost
    groups = tuple(group for group in groups if _is_public(group, task.private))
    if not groups:
        where = f"the trail was lost at {lost[0]}" if lost else "no layer's units end inside the model"
        raise TaskError(f"federated dropout: nothing of this model can be left out ({where}): {REMEDY}")
    return groups


def layout_with_groups(model: nn.Module, task: Task, groups: Groups) -> Layout:
    """The layout of a model whose parts can be trained. Private tensors are in no layout, and in no group of it."""
    shared = tuple(
        Group(group.units, tuple(member for member in group.members if not task.private(member.tensor)))
        for group in groups
    )
    try:
        return replace(layout_of(model, task.private), groups=shared)
    except LayoutError as error:
        raise TaskError(f"droppable: {error}") from error


class Shrinker:
    """Makes parts of one task's model."""

    def __init__(self, model: nn.Module, task: Task) -> None:
        self._private: IsPrivate = task.private
        self._groups = groups_of(task, model)
        self.layout = layout_with_groups(model, task, self._groups)

    def part(self, wanted: SubModel) -> Part:
        """What an order wants of the model. TaskError if it means other units than this task's."""
        if groups_digest(self.layout.groups) != wanted.groups:
            raise TaskError(
                "the units that may be left out are not those of the coordinator's model: code, torch and "
                "spec.task.config have to be the same everywhere, or the task has to declare them (Task.droppable)"
            )
        return part_of(self.layout, wanted.draw)

    def shrink(self, model: nn.Module, part: Part) -> None:
        """Make a whole model into this part of it, in place."""
        places = places_of(self._groups, part.units)
        factors = _factors(self._groups, part.units)
        tensors = model.state_dict(keep_vars=True)
        names = {id(tensor): name for name, tensor in reversed(tensors.items())}  # a shared one goes by its first name
        smaller = {id(tensors[name]): _sliced(tensors[name], axes) for name, axes in places.items()}
        for module in model.modules():
            factor = factors.get(names.get(id(module.weight), "")) if isinstance(module, _READERS) else None
            if factor is not None:
                module.register_forward_pre_hook(_scaled(factor))
            _replace(module, smaller)
            _tell_sizes(module)

    def private_after(self, before: Mapping[str, Tensor], after: Mapping[str, Tensor], part: Part) -> dict[str, Tensor]:
        """A client's private tensors, whole, once those of a part have been trained."""
        places = places_of(self._groups, part.units)
        return {name: _put(before[name], tensor, places.get(name, {})) for name, tensor in after.items()}


def resize(model: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Give tensors of a model other sizes, in place; what was in them is lost."""
    tensors = model.state_dict(keep_vars=True)
    others = {
        id(tensors[name]): _blank(tensors[name], shape)
        for name, shape in shapes.items()
        if tuple(tensors[name].shape) != tuple(shape)
    }
    for module in model.modules():
        _replace(module, others)
        _tell_sizes(module)


def _blank(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    made = tensor.detach().new_zeros(shape)
    return nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made


def _is_public(group: Group, private: IsPrivate) -> bool:
    return any(not private(member.tensor) for member in group.members)


def _factors(groups: Groups, units: tuple[Places, ...]) -> dict[str, float]:
    """For each weight that reads a group along its second axis: by how much its input is scaled up."""
    return {
        member.tensor: group.units / len(kept)
        for group, kept in zip(groups, units, strict=True)
        for member in group.members
        if member.axis == 1
    }


def _scaled(factor: float) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    def scale(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0] * factor, *inputs[1:])

    return scale


def _sliced(tensor: Tensor, axes: Mapping[int, Places]) -> Tensor:
    piece = tensor.detach()
    for axis, places in axes.items():
        piece = piece.index_select(axis, torch.from_numpy(places).to(piece.device))
    return nn.Parameter(piece, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else piece


def _put(whole: Tensor, piece: Tensor, axes: Mapping[int, Places]) -> Tensor:
    """A copy of a whole tensor, with the piece where it was taken from."""
    index = np.ix_(*(axes.get(axis, np.arange(size)) for axis, size in enumerate(whole.shape)))
    copy = whole.detach().clone()
    copy[tuple(torch.from_numpy(places) for places in index)] = piece
    return copy


def _replace(module: nn.Module, smaller: Mapping[int, Tensor]) -> None:
    """Put the smaller tensors where the whole ones were; a shared one stays shared."""
    for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        if id(tensor) in smaller:
            setattr(module, name, smaller[id(tensor)])


def _tell_sizes(module: nn.Module) -> None:
    """Layers say their sizes beside holding tensors of them, and some look there."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _CONVOLUTIONS):
        module.out_channels = module.weight.shape[0]
        module.groups = module.groups if module.groups == 1 else module.out_channels
        module.in_channels = module.groups * module.weight.shape[1]
    elif isinstance(module, _NORMS) and module.weight is not None:
        module.num_features = module.weight.shape[0]
