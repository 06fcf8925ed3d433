"""What share of its values an update sends, under codec AdaptiveTopK: learnt from the rounds that are over.

The search itself is `muster_wire.adaptive` (Han et al. 2020). Here is what a federation knows of a round: each update
in it brings the loss of some of its client's own examples at the base, at the base with the update as it was sent, and
at the base with what the probe's smaller share would have sent. Losses are averaged by examples. The round takes as
long as its slowest client trains and sends; with the probe's share, sending would have taken that much less. Where
nobody saw how long sending took (updates in one message) it is what the client's surveyed line takes for it.

The paper compares global models, for which every client would have to be sent a second model each round. Here a client
compares what its own update does to its own loss: three passes over a few examples, and not one byte more down.

The search is a fold over the commits, so a coordinator that comes back goes on where the one before it was. A client
that lies about its losses can move the share within the bounds that the manifest gives, and do nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from muster_coordinator.records import RoundCommit, Uplink, UsedUpdate
from muster_spec.clients import ClientId
from muster_wire.adaptive import Search, Seen, adapt


def uplink_of(search: Search) -> Uplink:
    """What the next round sends, and the share to compare it with."""
    return Uplink(share=search.share, probe=search.probe)


def after_round(search: Search | None, commit: RoundCommit, surveyed: Callable[[ClientId], float]) -> Search | None:
    """The search after one more round; as it was where none of its updates says anything. None: nothing is searched.

    `surveyed` is a client's uplink in bytes a second, as its worker found it; nan: not known.
    """
    if search is None or not commit.round:  # a first model is no update
        return search
    said = [each for each in commit.used if each.round == commit.round and each.losses]
    sent = [(each, each.upload_s or each.size_bytes / surveyed(each.client)) for each in said]
    timed = [(each, sending_s) for each, sending_s in sent if sending_s > 0]  # nan is not
    return adapt(search, _seen(search, timed)) if timed else search


def _seen(search: Search, timed: Sequence[tuple[UsedUpdate, float]]) -> Seen:
    used, fewer = [each for each, _ in timed], search.probe / search.share
    return Seen(
        loss_before=_mean([(each.losses.before, each.examples) for each in used if each.losses]),
        loss_after=_mean([(each.losses.after, each.examples) for each in used if each.losses]),
        loss_probe=_mean([(each.losses.fewer, each.examples) for each in used if each.losses]),
        seconds=max(each.train_s + sending_s for each, sending_s in timed),
        seconds_probe=max(each.train_s + fewer * sending_s for each, sending_s in timed),
    )


def _mean(parts: Sequence[tuple[float, int]]) -> float:
    return sum(value * weight for value, weight in parts) / sum(weight for _, weight in parts)
