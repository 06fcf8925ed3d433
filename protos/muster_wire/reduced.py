"""Updates of some layers: the layout of what is left of a model's without the trainable tensors that are not sent."""

from __future__ import annotations

from collections.abc import Collection

from muster_wire.layout import Kind, Layout
from muster_wire.values import Values


def layout_without(layout: Layout, names: Collection[str]) -> Layout:
    """The same tensors in their order, but those. It has no groups: nothing more is left out of it."""
    return Layout(tuple(spec for spec in layout.tensors if spec.name not in names))


def missing_of(reduced: Layout, whole: Layout) -> tuple[str, ...] | None:
    """Which tensors one layout lacks of another; None if it isn't the other without some of its trainable tensors.

    At least one of them has to be there: an update of nothing is none.
    """
    there = {spec.name for spec in reduced.tensors}
    missing = tuple(spec.name for spec in whole.tensors if spec.kind is Kind.TRAINABLE and spec.name not in there)
    is_reduced = layout_without(whole, missing).tensors == reduced.tensors and not reduced.groups
    return missing if is_reduced and (reduced.trainable_size or not missing) else None


def reduced(values: Values, names: Collection[str]) -> Values:
    """An update without these tensors, as a copy."""
    part = Values.zeros(layout_without(values.layout, names), frozen=False)
    views = {spec.name: view for spec, view in values.tensors()}
    for spec, view in part.tensors():
        view[...] = views[spec.name]
    return part
