"""A client's half of FedMA: its own model on top of the layers that are matched, and the one layer that it sends.

Wang et al. 2020, "Federated learning with matched averaging", algorithm 1. In each round of a pass one more layer is
matched. A client puts the matched layers under its own, lets its next layer read them where its own units have gone,
freezes them, and trains the rest. With communication (their section 2.2): a new pass begins with a model as large as
the task makes it, of those units of the matched one that this client's own became.

Between the rounds of a pass a client keeps its unmatched layers, and from pass to pass where its units are. Both are
state, so they move only when a commit has its layer in it. Without them it can't go on, and comes back with the next
pass; there a client that knows nothing of its units takes the first ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from muster.arrays import load_values
from muster.batches import batches
from muster.errors import TaskError
from muster.orders import Matched
from muster.submodels import resize
from muster_wire.errors import LayoutError
from muster_wire.layout import Layout
from muster_wire.matching import (
    CLASSES,
    Chain,
    Places,
    chain_of,
    inputs_of,
    layer_layout,
    spread,
    widths_of,
    with_units,
)
from muster_wire.values import Floats, Values

LOCAL: Final = "muster.local."  # in a client's state: its own tensor of this name
UNITS: Final = "muster.units."  # where its units of this layer are
PHASE: Final = "muster.phase"  # which layer's turn its state is for
_BATCH: Final = 1024


def matchable(layout: Layout) -> Chain:
    """The layers of a task's model. TaskError, with the reason, for one that can't be matched."""
    try:
        return chain_of(layout)
    except LayoutError as error:
        raise TaskError(f"strategy FedMA can't match this model: {error}") from error


class Matcher:
    """Makes one task's clients' models, and takes from them what they send and what they keep."""

    def __init__(self, own: Layout) -> None:
        self._own = own
        self._chain = matchable(own)
        self._widths = widths_of(own, self._chain)

    @property
    def classes(self) -> int:
        """How many outputs the model has."""
        last = self._chain[-1].weight
        return next(spec.shape[0] for spec in self._own.tensors if spec.name == last)

    def begin(self, model: nn.Module, base: Values, state: Mapping[str, Tensor], matched: Matched) -> None:
        """Make a task's model into this client's in this phase. TaskError if its state isn't there, or not for this."""
        at, theirs = matched.phase, widths_of(base.layout, self._chain)
        widths = (*theirs[:at], *self._widths[at:])
        values = Values.zeros(with_units(self._own, self._chain, widths))
        tensors = self._at_first(base, state) if at == 0 else self._further(base, state, matched, theirs)
        for spec, view in values.tensors():
            view[...] = tensors[spec.name]
        resize(model, {spec.name: spec.shape for spec in values.layout.tensors})
        load_values(model, values)
        frozen = {name for layer in self._chain[:at] for name in layer.tensors}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in frozen and parameter.requires_grad)

    def _at_first(self, base: Values, state: Mapping[str, Tensor]) -> dict[str, Floats]:
        """The client's own units of the whole model."""
        theirs, whole = widths_of(base.layout, self._chain), {spec.name: view for spec, view in base.tensors()}
        places: list[Places | None] = [
            self._units(state, at, own, there) for at, (own, there) in enumerate(zip(self._widths, theirs, strict=True))
        ]
        tensors = {}
        for at, layer in enumerate(self._chain):
            rows = places[at] if at < len(places) else None
            weight = whole[layer.weight] if rows is None else whole[layer.weight][rows]
            before = places[at - 1] if at else None
            tensors[layer.weight] = weight if before is None else weight[:, inputs_of(before, layer.repeat)]
            if layer.bias is not None:
                tensors[layer.bias] = whole[layer.bias] if rows is None else whole[layer.bias][rows]
        return tensors

    def _further(
        self, base: Values, state: Mapping[str, Tensor], matched: Matched, theirs: Sequence[int]
    ) -> dict[str, Floats]:
        """Matched layers below, the client's own above; the lowest of these reads the matched one under it."""
        at, tensors = matched.phase, {spec.name: view for spec, view in base.tensors()}
        if PHASE not in state or int(state[PHASE].item()) != at or len(matched.places) != self._widths[at - 1]:
            raise TaskError(
                "the client's own layers are lost, or of another round: it takes part again when the next pass begins; "
                "a --state folder that outlives the worker would have kept them"
            )
        for layer in self._chain[at:]:
            tensors |= {name: state[LOCAL + name].numpy() for name in layer.tensors}
        reads = self._chain[at]
        tensors[reads.weight] = spread(
            tensors[reads.weight], np.array(matched.places, np.int64), theirs[at - 1], reads.repeat
        )
        return tensors

    def _units(self, state: Mapping[str, Tensor], at: int, own: int, there: int) -> Places:
        """Where this client's units of a layer are in the whole model."""
        known = state.get(f"{UNITS}{at}")
        if known is not None and known.shape == (own,) and int(known.min()) >= 0 and int(known.max()) < there:
            places: Places = known.numpy()
            return places
        return np.arange(own)

    def update(self, trained: Values, base: Layout, phase: int, classes: Floats) -> Values:
        """What the client sends of its trained model: the layer whose turn it is, as it is."""
        units = 0 if phase == len(self._widths) else self._widths[phase]
        sent = Values.zeros(layer_layout(base, self._chain, phase, units), frozen=False)
        tensors = {spec.name: view for spec, view in trained.tensors()} | {CLASSES: classes}
        for spec, view in sent.tensors():
            view[...] = tensors[spec.name]
        return sent

    def state_after(self, trained: Values, before: Mapping[str, Tensor], matched: Matched) -> dict[str, Tensor]:
        """What the client keeps once its layer is matched."""
        kept = {name: tensor for name, tensor in before.items() if name.startswith(UNITS)}
        if matched.phase:
            kept[f"{UNITS}{matched.phase - 1}"] = torch.tensor(matched.places, dtype=torch.int64)
        tensors = {spec.name: view for spec, view in trained.tensors()}
        for layer in self._chain[matched.phase + 1 :]:
            kept |= {LOCAL + name: torch.from_numpy(tensors[name].copy()) for name in layer.tensors}
        return kept | {PHASE: torch.tensor((matched.phase + 1) % len(self._chain))}

    def layout_of_phase(self, base: Layout, phase: int) -> Layout:
        """Of the client's model: matched layers as wide as they are, its own as the task makes them."""
        return with_units(self._own, self._chain, (*widths_of(base, self._chain)[:phase], *self._widths[phase:]))


def classes_of(dataset: Dataset[Any], count: int) -> Floats:
    """How many examples there are of each class. TaskError where targets aren't classes of the model's outputs."""
    found = torch.zeros(count, dtype=torch.int64)
    for _, targets in batches(dataset, _BATCH, torch.device("cpu"), shuffle=None)():
        is_class = not targets.is_floating_point() and targets.dim() == 1
        if not is_class or int(targets.min()) < 0 or int(targets.max()) >= count:
            raise TaskError("strategy FedMA averages the last layer by class: targets have to be numbers of outputs")
        found += torch.bincount(targets, minlength=count)
    counts: Floats = found.to(torch.float32).numpy()
    return counts
