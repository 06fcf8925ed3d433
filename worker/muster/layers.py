"""A backward pass that may end between two layers: the local half of layer-wise aggregation.

Lang, Cohen, Shlezinger, "Stragglers-aware low-latency synchronous federated learning via layer-wise model updates"
(SALF, IEEE Transactions on Communications 2024; arXiv 2403.18375), on which Goren et al. 2025 (ADEL-FL, arXiv
2505.23973) build: backpropagation goes from the last layer to the first, so a client whose time is up in its midst has
whole gradients of the last layers, and those are worth sending.

A layer is a module with parameters of its own: a weight and its bias. Gradients count only once all of a layer's are
there. Whoever's time is up before the first layer is done still does that one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from torch import Tensor, nn

FORWARD = 1 / 3  # of a step's work; the rest is shared out among layers, as if they were alike


class OutOfTimeError(Exception):
    """Ends a backward pass. It leaves the gradients that are there."""


class Layers:
    """Watches a model's backward passes. `is_late` is asked as each layer is done; `within` hears how far it is."""

    def __init__(self, model: nn.Module, is_late: Callable[[], bool], within: Callable[[float], None]) -> None:
        self._is_late, self._within = is_late, within
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._layer_of = {id(p): name.rpartition(".")[0] for name, p in trained.items()}
        self._names = {id(p): name for name, p in trained.items()}
        self._sizes = Counter(self._layer_of.values())  # of layers, in parameters
        self._left: Counter[str] = Counter()  # gradients that each layer still waits for in this pass
        self._missing = set(trained)  # parameters that no step of this training has touched
        self._handles = [
            p.register_post_accumulate_grad_hook(self._arrive)  # type: ignore[no-untyped-call]
            for p in trained.values()
        ]

    @property
    def missing(self) -> tuple[str, ...]:
        """The parameters that no step has touched."""
        return tuple(sorted(self._missing))

    def backward(self, loss: Tensor) -> bool:
        """Gradients for the layers that are done in time; all others have none. Whether the pass came to its end."""
        self._left = self._sizes.copy()
        self._within(FORWARD)
        try:
            loss.backward()  # type: ignore[no-untyped-call]
        except OutOfTimeError:
            return False
        self._missing.clear()  # whatever has no gradient now never has one
        return True

    def keep_whole(self, parameters: Sequence[nn.Parameter]) -> None:
        """After a pass that was cut short: forget the gradients of layers that are not whole."""
        for parameter in parameters:
            if self._left[self._layer_of[id(parameter)]]:
                parameter.grad = None
            else:
                self._missing.discard(self._names[id(parameter)])

    def close(self) -> None:
        """The model goes on without."""
        for handle in self._handles:
            handle.remove()

    def _arrive(self, parameter: Tensor) -> None:
        layer = self._layer_of[id(parameter)]
        self._left[layer] -= 1
        done, layers = sum(not left for left in self._left.values()), len(self._sizes)
        if self._left[layer] or done == layers:
            return
        self._within(FORWARD + (1 - FORWARD) * done / layers)
        if self._is_late():
            raise OutOfTimeError
