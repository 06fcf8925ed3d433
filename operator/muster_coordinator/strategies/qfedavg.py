"""q-FedAvg: clients on whose data the model does badly count more, so that it serves all of them more alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from muster_coordinator.records import UsedUpdate
from muster_coordinator.strategies.base import Strategy
from muster_spec.work import BASE_LOSS

_TINY = 1e-10  # added to losses, as in the authors' code: a loss of 0 has no power below 1


@dataclass(frozen=True, slots=True)
class QFedAvg(Strategy):
    """Li et al., 2020, "Fair resource allocation in federated learning", algorithm 2.

    With F_k the loss of the round's model on client k's data, Δ_k its update (theirs is -Δ_k) and L the inverse of the
    local learning rate, which stands for the unknown Lipschitz constant (their section 3.3):

        x ← x + Σ p_k F_k^q L Δ_k / Σ p_k h_k        h_k = q F_k^(q-1) ‖L Δ_k‖² + L F_k^q

    There clients are drawn with probability p_k and averaged; here everybody is as likely and p_k, its importance,
    weighs it. At q 0 this is FedAvg. As a sum: weights p_k F_k^q, whose mean is multiplied by
    Σ p_k F_k^q / Σ p_k (q F_k^(q-1) L ‖Δ_k‖² + F_k^q). Losses are taken relative to the largest, which changes neither
    and keeps powers within what a float holds (one below 1e-10 is taken for that).
    """

    q: float = 0.0
    learning_rate: float = 1.0  # the clients'

    name = "QFedAvg"
    needs_plaintext = needs_one_base = needs_all_values = needs_whole_model = True
    waits = True

    def problem(self, steps: int, metrics: Mapping[str, float]) -> str | None:  # noqa: ARG002 -- the loss is all it needs
        loss = metrics.get(BASE_LOSS)
        if loss is None:
            return f"q-FedAvg weighs by the metric {BASE_LOSS}, the loss of the model that came, which it doesn't have"
        return None if loss >= 0 else f"q-FedAvg takes powers of losses, and its {BASE_LOSS} is {loss:g}"

    def weights(self, used: Sequence[UsedUpdate], importances: Sequence[float]) -> tuple[float, ...]:
        largest = max(_loss(update) for update in used)
        powers = [(_loss(update) / largest) ** self.q for update in used]
        return tuple(p * max(power, _TINY) for p, power in zip(importances, powers, strict=True))

    def scale(self, used: Sequence[UsedUpdate], importances: Sequence[float]) -> float:
        weights = self.weights(used, importances)
        slopes = [self.q * update.norm**2 / (_loss(update) * self.learning_rate) for update in used]
        return sum(weights) / sum(w * (1 + slope) for w, slope in zip(weights, slopes, strict=True))


def _loss(update: UsedUpdate) -> float:
    return update.metrics[BASE_LOSS] + _TINY
