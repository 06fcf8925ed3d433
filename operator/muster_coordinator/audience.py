"""Which versions the clients hold that can be expected to come again: what a new keyframe is weighed against.

A function of the job's records, so that a coordinator that was restarted decides as it would have anyway. An update
that was used was trained from the version before its round, so its client holds that one, or a newer one that it has
fetched in vain: an estimate, and only sizes depend on it.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from muster_coordinator.assignments import round_of
from muster_coordinator.config import EngineConfig
from muster_coordinator.state import Progress
from muster_spec.clients import ClientId
from muster_wire.chain import Audience

LOST_SHARE: Final = 0.05  # of all clients: that come without the version they had, since their workers were moved
FORGOTTEN_AFTER: Final = 4.0  # times the rounds that usually lie between two calls of one client


def audience_of(progress: Progress, version: int, config: EngineConfig) -> Audience:
    """Who will come for `version`. Whoever has been away for four times as long as usual is forgotten.

    Nobody pays for keyframes that would suit the absent.
    """
    clients = len(config.clients)
    longest = FORGOTTEN_AFTER * clients / max(config.cohort, 1)
    last = {client: _holds(progress, client) for client in config.clients}
    held = Counter(holds for holds in last.values() if holds is not None and version - holds <= longest)
    unseen = sum(holds is None for holds in last.values()) if version <= longest else 0
    return Audience(dict(held), unseen + LOST_SHARE * clients)


def _holds(progress: Progress, client: ClientId) -> int | None:
    newest = max((round_of(assignment) for assignment in progress.used.get(client, ())), default=0)
    return newest - 1 if newest else None  # round 0 makes a model, and fetches none
