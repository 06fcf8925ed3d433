"""Units of a model that can be left out together: what federated dropout has to know of a model's inside.

A unit is a neuron or a channel. Leaving one out takes a slice away from every tensor that it runs through: a row of the
weight that makes it, its bias, what a batch norm keeps of it, a column of each weight that reads it. Units whose slices
depend on one another (two layers that a residual connection adds up) form one group. A layout that has groups is of a
model whose parts can be trained; a peer's groups are hostile until they are checked against its tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from muster_wire.checksum import checksum128
from muster_wire.errors import LayoutError


class Member(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One axis of a tensor that a group's units lie along, each as `repeat` neighbours (of a flattened channel)."""

    tensor: str
    axis: int
    repeat: int = 1


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many units, and everything that goes with them."""

    units: int
    members: tuple[Member, ...]


Groups = tuple[Group, ...]


def check_groups(groups: Iterable[Group], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """LayoutError unless every member is an axis of these shapes, of the right length, and in one group only."""
    seen: set[tuple[str, int]] = set()
    for number, group in enumerate(groups):
        if group.units < 1 or not group.members:
            raise LayoutError(f"group {number}: a group has at least one unit and one member")
        for member in group.members:
            _check_member(member, group.units, shapes.get(member.tensor))
            if (member.tensor, member.axis) in seen:
                raise LayoutError(f"{member.tensor}: axis {member.axis} is in two groups, or twice in one")
            seen.add((member.tensor, member.axis))


def groups_digest(groups: Groups) -> str:
    """XXH3-128 of the groups' JSON as it stands in a layout: both sides prove with it that they mean the same units."""
    return checksum128(msgspec.json.encode(groups))


def _check_member(member: Member, units: int, shape: tuple[int, ...] | None) -> None:
    name = member.tensor[:64]
    if shape is None:
        raise LayoutError(f"{name!r}: a group names this tensor, and the layout has none of this name")
    if not 0 <= member.axis < len(shape):
        raise LayoutError(f"{name}: a group names axis {member.axis}, and the tensor has {len(shape)} axes")
    if member.repeat < 1 or shape[member.axis] != units * member.repeat:
        raise LayoutError(
            f"{name}: {units} units of {member.repeat} each are not the {shape[member.axis]} of axis {member.axis}"
        )
