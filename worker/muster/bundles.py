"""Which axes of a model's tensors carry the same units: a union-find over (tensor, axis), filled by tracing.py.

Axes that carry the same units are one bundle, and each bundle that is not pinned becomes a group. Axes that turn out
not to fit together are pinned rather than guessed at: a pinned bundle keeps all its units.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor, nn

from muster_wire.groups import Group, Groups, Member

Place = tuple[str, int]  # a tensor's name, and one of its axes


@dataclass(slots=True, eq=False)
class Bundle:
    """Axes that carry the same units. `units` is None where nobody has said yet how many."""

    units: int | None
    members: dict[Place, int] = field(default_factory=dict)  # and how often each unit repeats
    pinned: bool = False
    joined: Bundle | None = None

    def root(self) -> Bundle:
        """The bundle that this one has become a part of."""
        return self if self.joined is None else self.joined.root()


class Bundles:
    """All bundles of one model."""

    def __init__(self, model: nn.Module) -> None:
        tensors = list(model.state_dict(keep_vars=True).items())
        self._names = {id(tensor): name for name, tensor in reversed(tensors)}  # a shared one goes by its first name
        self._order = {name: place for place, (name, _) in enumerate(tensors)}
        self._owners: dict[Place, Bundle] = {}

    def attach(self, tensor: Tensor | None, axis: int, bundle: Bundle) -> None:
        """The units of a bundle run along this axis; without a tensor (a layer has no bias), nothing happens."""
        if tensor is None:
            return
        if id(tensor) not in self._names:  # made anew whenever it is used, by a hook
            bundle.root().pinned = True
            return
        place, bundle = (self._names[id(tensor)], axis), bundle.root()
        if place in self._owners:
            self.join(self._owners[place], bundle)
        self._owners[place] = bundle
        if bundle.units is None:
            return
        repeat, rest = divmod(tensor.shape[axis], bundle.units)
        root = bundle.root()
        root.pinned |= bool(rest) or root.members.get(place, repeat) != repeat
        root.members[place] = repeat

    def join(self, one: Bundle, other: Bundle) -> None:
        """Both carry the same units."""
        one, other = one.root(), other.root()
        if one is other:
            return
        clash = any(other.members.get(place, repeat) != repeat for place, repeat in one.members.items())
        differ = None not in (one.units, other.units) and one.units != other.units
        one.pinned |= other.pinned or clash or differ
        one.units = one.units or other.units
        one.members |= other.members
        other.joined = one

    def pin(self, tensors: Iterable[Tensor]) -> None:
        """No axis of these gets smaller."""
        for tensor in tensors:
            if id(tensor) in self._names:
                for axis in range(tensor.dim()):
                    self.attach(tensor, axis, Bundle(None, pinned=True))

    def groups(self) -> Groups:
        """Of each bundle that has something to leave out, in the order of the model's tensors."""
        roots = dict.fromkeys(bundle.root() for bundle in self._owners.values())
        found = [self._group(root, root.units) for root in roots if root.units and root.units > 1 and not root.pinned]
        return tuple(sorted(found, key=lambda group: self._place(group.members[0])))

    def _group(self, bundle: Bundle, units: int) -> Group:
        members = [Member(name, axis, repeat) for (name, axis), repeat in bundle.members.items()]
        return Group(units, tuple(sorted(members, key=self._place)))

    def _place(self, member: Member) -> tuple[int, int]:
        return self._order[member.tensor], member.axis
