"""How rounds went, as people ask about it: the bounded history that the job's status shows.

A commit leaves a record, so its summary is the same after a restart. A failed attempt leaves only the next plan: its
summary lasts for as long as this coordinator does.
"""

from __future__ import annotations

from collections import Counter

from muster_coordinator.records import RoundCommit, RoundPlan
from muster_coordinator.rounds import in_queue, mean_metrics, queued_of
from muster_coordinator.state import Roster, Round, RoundSummary

ROUNDS_KEPT = 20
COMMITTED = "Committed"
FAILED = "Failed"
_REASONS_SHOWN = 3


def add_round(rounds: tuple[RoundSummary, ...], commit: RoundCommit) -> tuple[RoundSummary, ...]:
    """The history with one more round. The making of the first model is no round."""
    return (*rounds, _summary(commit))[-ROUNDS_KEPT:] if commit.round else rounds


def _summary(commit: RoundCommit) -> RoundSummary:
    used, queued = len(commit.fresh), len(queued_of(commit))
    return RoundSummary(
        round=commit.round,
        epoch=commit.epoch,
        outcome=COMMITTED,
        reason=commit.reason,
        seconds=commit.seconds,
        asked=used + len(commit.failed),
        used=len(commit.used),
        rejected=len(commit.failed) - commit.stragglers - queued,
        stragglers=commit.stragglers,
        queued=queued,
        started_s=commit.started_s,
        bytes_up=commit.bytes_up,
        bytes_down=commit.bytes_down,
        metrics=mean_metrics(commit.fresh),
    )


def failed_attempt(round_: Round, roster: Roster, why: str, now: float) -> RoundSummary:
    """The summary of an attempt that is given up."""
    queued = in_queue(round_, roster)
    return RoundSummary(
        round=round_.number,
        epoch=round_.plan.epoch,
        outcome=FAILED,
        reason=closing_reason(round_.plan, why),
        seconds=now - round_.opened,
        asked=len(round_.plan.cohort),
        used=0,
        rejected=len(round_.failures),
        stragglers=round_.outstanding - queued,
        queued=queued,
    )


def closing_reason(plan: RoundPlan, why: str) -> str:
    """Why a round closed when it did, and why its clients were asked."""
    count = len(plan.cohort)
    if not count:
        return f"{why}; nobody was asked"
    return f"{why}; {count} {'client was' if count == 1 else 'clients were'} asked ({_why_asked(plan)})"


def _why_asked(plan: RoundPlan) -> str:
    """The selector's reasons, the most frequent first."""
    reasons = Counter(planned.reason for planned in plan.cohort)
    shown = reasons.most_common(_REASONS_SHOWN)
    if len(reasons) == 1:
        return shown[0][0]
    rest = "; …" if len(reasons) > len(shown) else ""
    return "; ".join(f"{count} × {reason}" for reason, count in shown) + rest
