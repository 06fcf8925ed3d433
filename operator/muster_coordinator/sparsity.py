"""What share of its values an update sends, under codec AdaptiveTopK: learnt from the rounds that are over.

The search itself is `muster_wire.adaptive` (Han et al. 2020). Here is what a federation knows of a round: each update
in it brings the loss of some of its client's own examples at the base, at the base with the update as it was sent, and
at the base with what the probe's smaller share would have sent. Losses are averaged by examples. The round takes as
long as its slowest client trains and sends; with the probe's share, sending would have taken that much less.

The paper compares global models, for which every client would have to be sent a second model each round. Here a client
compares what its own update does to its own loss: three passes over a few examples, and not one byte more down.

The search is a fold over the commits, so a coordinator that comes back goes on where the one before it was. A client
that lies about its losses can move the share within the bounds that the manifest gives, and do nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from muster_coordinator.records import RoundCommit, Uplink, UsedUpdate
from muster_wire.adaptive import Search, Seen, adapt


def uplink_of(search: Search) -> Uplink:
    """What the next round sends, and the share to compare it with."""
    return Uplink(share=search.share, probe=search.probe)


def after_round(search: Search | None, commit: RoundCommit) -> Search | None:
    """The search after one more round; as it was where none of its updates says anything. None: nothing is searched."""
    timed = [each for each in commit.used if each.round == commit.round and each.losses and each.upload_s > 0]
    says_something = timed and commit.round > 0  # a first model is no update
    return adapt(search, _seen(search, timed)) if search and says_something else search


def _seen(search: Search, used: Sequence[UsedUpdate]) -> Seen:
    fewer = search.probe / search.share
    return Seen(
        loss_before=_mean([(each.losses.before, each.examples) for each in used if each.losses]),
        loss_after=_mean([(each.losses.after, each.examples) for each in used if each.losses]),
        loss_probe=_mean([(each.losses.fewer, each.examples) for each in used if each.losses]),
        seconds=max(each.train_s + each.upload_s for each in used),
        seconds_probe=max(each.train_s + fewer * each.upload_s for each in used),
    )


def _mean(parts: Sequence[tuple[float, int]]) -> float:
    return sum(value * weight for value, weight in parts) / sum(weight for _, weight in parts)
