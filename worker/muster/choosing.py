"""Which of the jobs that the lobby offers a worker takes, and what it says of the others. Pure.

Everything follows from the offers as they are now and from what this process remembers of its own: which jobs it has
seen to their end, and which it failed at and when it would try again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from muster.policy import Asked, Because, Refusal, SitePolicy, judge
from muster_spec.terms import Terms
from muster_wire.v1 import lobby_pb2 as pb

OVER, LOST = 0, 1
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 600.0
GAVE_UP_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class Offer:
    """One job that wants clients of this worker's pool. `terms` is None where this version can't read them."""

    job: str
    name: str  # namespace/name
    pool: str
    coordinator: str
    authorities: str
    terms: Terms | None
    capacity: int
    share: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong with a job so far: how often in a row, until when it is left alone, and how it ended last."""

    count: int
    until: float
    code: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What a worker process knows of jobs (by uid) that it has worked for."""

    over: frozenset[str] = frozenset()
    failures: Mapping[str, Failure] = field(default_factory=dict)

    def ended(self, job: str, code: int, now: float) -> Memory:
        """One more visit is over, with this exit code."""
        if code == OVER:
            return replace(self, over=self.over | {job})
        before = self.failures.get(job)
        count = before.count + 1 if before else 1
        first_s = FIRST_PAUSE_S if code == LOST else GAVE_UP_PAUSE_S
        pause_s = min(first_s * 2.0 ** min(count - 1, 16), LONGEST_PAUSE_S)
        return replace(self, failures={**self.failures, job: Failure(count, now + pause_s, code)})

    def among(self, offers: Sequence[Offer]) -> Memory:
        """What is worth remembering: jobs that are no longer offered are forgotten once they are over, but for these.

        A job is offered for a moment after its end, so what is over stays for as long as this process lives; uids are
        short.
        """
        there = {offer.job for offer in offers}
        return replace(self, failures={job: each for job, each in self.failures.items() if job in there})


@dataclass(frozen=True, slots=True)
class Decision:
    """What to work for, if anything; what is refused, by job; and when to decide again, even if nothing changes."""

    take: Offer | None
    refusals: Mapping[str, Refusal]
    again_at: float | None = None


def decide(offers: Sequence[Offer], policy: SitePolicy, memory: Memory, now: float) -> Decision:
    """The first job that is allowed and not left alone for now."""
    refusals = {offer.job: refusal for offer in offers if (refusal := _refusal(offer, policy, memory))}
    open_ = [offer for offer in offers if _is_open(offer, refusals, memory)]
    ready = [offer for offer in open_ if not _is_left_alone(offer, memory, now)]
    again = min(
        (memory.failures[offer.job].until for offer in offers if _is_left_alone(offer, memory, now)), default=None
    )
    return Decision(ready[0] if ready else None, refusals, again)


def _is_open(offer: Offer, refusals: Mapping[str, Refusal], memory: Memory) -> bool:
    refusal = refusals.get(offer.job)
    return offer.job not in memory.over and (refusal is None or refusal.because is Because.CANNOT)


def _is_left_alone(offer: Offer, memory: Memory, now: float) -> bool:
    failure = memory.failures.get(offer.job)
    return failure is not None and now < failure.until and offer.job not in memory.over


def _refusal(offer: Offer, policy: SitePolicy, memory: Memory) -> Refusal | None:
    if offer.terms is None:
        return Refusal(Because.TERMS, "its terms can't be read by this worker's version: upgrade one of both sides")
    refusal = judge(policy, Asked(offer.name, offer.terms))
    failure = memory.failures.get(offer.job)
    if refusal is None and failure is not None and failure.code != LOST:
        words = f"the worker gave up with exit code {failure.code}, {failure.count} times so far: its log says why"
        return Refusal(Because.CANNOT, words)
    return refusal


# --- the wire ---------------------------------------------------------------------------------------------------------


def parse_offers(message: pb.JobOffers) -> tuple[Offer, ...]:
    """The offers that can be one. What can't be read of their terms is found out when they are judged."""
    return tuple(
        Offer(
            job=each.job,
            name=f"{each.namespace}/{each.name}",
            pool=each.pool,
            coordinator=each.coordinator,
            authorities=each.authorities.decode(errors="replace"),
            terms=_terms(each.terms),
            capacity=max(1, each.capacity),
            share=each.share,
        )
        for each in message.offers
        if each.job and each.coordinator
    )


def _terms(text: str) -> Terms | None:
    try:
        return msgspec.json.decode(text, type=Terms)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def standing_message(job: str, refusals: Mapping[str, Refusal]) -> pb.Standing:
    """What is told to the lobby."""
    return pb.Standing(
        job=job,
        refusals=[
            pb.SiteRefusal(job=uid, because=_BECAUSE[refusal.because], message=refusal.message)
            for uid, refusal in sorted(refusals.items())
        ],
    )


_BECAUSE = {because: f"BECAUSE_{because.name}" for because in Because}
