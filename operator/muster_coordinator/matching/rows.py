"""The sum's place in a round of FedMA: the same layer of all clients, kept until the round closes, then matched.

A client's layer is a row of a file without a name, as for robust rules (rowfile.py). A hidden layer becomes the global
units that its clients' units are matched to; the last one, whose outputs mean the same for everybody, the mean for each
class by how many examples of it each client has. Memory is one layer of one client, that of the model, and what each
unit gains by each match.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from muster_coordinator.matching.assignment import Matching, Wide, match_units
from muster_coordinator.matching.phases import Phase
from muster_coordinator.rowfile import RowFile
from muster_coordinator.staging import Upload
from muster_coordinator.sums import BLOCK
from muster_wire.checksum import BytesLike
from muster_wire.layout import Layout, Span
from muster_wire.matching import CLASSES, chain_of, layer_layout, with_units
from muster_wire.payload import Shape
from muster_wire.values import Floats, Values

_TRAINABLE = 0


class MatchedRows:
    """Layers of one phase. `finish` or `close` ends it."""

    def __init__(self, layout: Layout, phase: Phase, matching: Matching, folder: Path) -> None:
        self._chain, self._phase, self._matching = chain_of(layout), phase, matching
        self._whole = layout
        self._is_last = phase.number == len(phase.widths)
        units = 0 if self._is_last else phase.widths[phase.number]
        self.layout = layer_layout(layout, self._chain, phase.number, units)
        self._rows = RowFile(self.layout, folder)

    @property
    def folded(self) -> int:
        return self._rows.count

    def fold(self, upload: Upload, weight: float) -> None:  # noqa: ARG002 -- matched units count alike
        """Keeps a complete, checked layer."""
        self.fold_payload(upload.shape, upload.view())

    def fold_payload(self, shape: Shape, encoded: BytesLike) -> None:
        """The same for bytes that lie elsewhere."""
        self._rows.add(shape, encoded)

    def close(self) -> None:
        self._rows.close()

    def finish(self, base: Values, seed: int) -> tuple[Values, tuple[tuple[int, ...], ...]]:
        """The next model, and where each client's units are in it, in the order in which they were folded."""
        try:
            return self._averaged(base) if self._is_last else self._matched(base, seed)
        finally:
            self.close()

    def _matched(self, base: Values, seed: int) -> tuple[Values, tuple[tuple[int, ...], ...]]:
        at = self._phase.number
        own = self._phase.widths[at]
        most = int(own * self._matching.max_growth + 1e-9)
        rng = np.random.default_rng((seed, at))
        matches, units = match_units(self._read, self.folded, self._matching, most, rng)
        shapes = {spec.name: spec.shape for spec in self._whole.tensors}
        widths = [shapes[layer.weight][0] for layer in self._chain[:-1]]
        widths[at] = len(units)
        grown = with_units(self._whole, self._chain, widths)
        made = _carried(base, grown)
        self._put(made, units)
        return made, tuple(tuple(places.tolist()) for places in matches)

    def _averaged(self, base: Values) -> tuple[Values, tuple[tuple[int, ...], ...]]:
        """By classes. Of one that nobody has, the plain mean."""
        if not self.folded:
            raise ValueError("a layer is averaged over at least one client")
        examples = np.stack([self._classes(client) for client in range(self.folded)])
        seen = examples.sum(axis=0)
        shares = np.where(seen > 0, examples / np.where(seen > 0, seen, 1.0), 1 / self.folded)
        mean = self._share_of(0, shares[0])
        for client in range(1, self.folded):
            mean += self._share_of(client, shares[client])
        made = _carried(base, self._whole)
        self._put(made, mean)
        return made, ()

    def _share_of(self, client: int, shares: Wide) -> Wide:
        units = self._read(client)
        units *= shares[:, None]
        return units

    # --- between tensors and units ------------------------------------------------------------------------------------

    def _read(self, client: int) -> Wide:
        """A client's units, [n, inputs + bias]: a few at a time, so that they are in memory once."""
        spans = [self._span(name) for name in self._chain[self._phase.number].tensors]
        count = spans[0].spec.shape[0]
        widths = [span.spec.size // count for span in spans]
        units, column = np.empty((count, sum(widths))), 0
        for span, width in zip(spans, widths, strict=True):
            some = max(BLOCK // width, 1)
            for first in range(0, count, some):
                last = min(first + some, count)
                values = self._values(client, span.start + first * width, span.start + last * width)
                units[first:last, column : column + width] = values.reshape(-1, width)
            column += width
        return units

    def _classes(self, client: int) -> Wide:
        """How many examples of each class it says it has."""
        span = self._span(CLASSES)
        classes: Wide = np.maximum(self._values(client, span.start, span.stop).astype(np.float64), 0.0)
        return classes

    def _span(self, name: str) -> Span:
        return next(span for span in self.layout.spans if span.spec.name == name)

    def _values(self, client: int, start: int, stop: int) -> Floats:
        row: Floats = np.empty((1, stop - start), np.float32)
        self._rows.read(_TRAINABLE, slice(start, stop), [client], row)
        values: Floats = row[0]
        return values

    def _put(self, made: Values, units: Wide) -> None:
        """Units as the weight and the bias of the layer."""
        layer, views = self._chain[self._phase.number], {spec.name: view for spec, view in made.tensors()}
        weight = views[layer.weight].reshape(len(units), -1)
        weight[...] = units[:, : weight.shape[1]]
        if layer.bias is not None:
            views[layer.bias][...] = units[:, -1]


def _carried(base: Values, layout: Layout) -> Values:
    """The base's numbers in a model of other widths: what is new is zero, what is gone is gone."""
    made = Values.zeros(layout)
    before = {spec.name: view for spec, view in base.tensors()}
    for spec, view in made.tensors():
        old = before[spec.name]
        common = tuple(slice(0, min(a, b)) for a, b in zip(view.shape, old.shape, strict=True))
        view[common] = old[common]
    return made
