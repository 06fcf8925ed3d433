"""What was refused, and why: every way in which a coordinator says no to a worker, counted by its cause.

One enum has all causes, so that no dashboard forgets one: those of an update are the wire's own (`Verdict.Cause`,
docs/wire.md), the others are of calls that never came so far. Each refusal is counted once, where it is decided.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

from muster_wire.errors import Cause


class Refused(StrEnum):
    """Causes, as metrics name them."""

    # An update, or the offer of one.
    LATE = "late"
    UNKNOWN_ASSIGNMENT = "unknown_assignment"
    MALFORMED = "malformed"
    WRONG_LAYOUT = "wrong_layout"
    NOT_FINITE = "not_finite"
    NORM = "norm"
    TOO_LARGE = "too_large"
    NOT_YOURS = "not_yours"
    DAMAGED = "damaged"  # a frame, on its way: it is sent again
    REPEATED = "repeated"  # an update that is in already: answered as the first time, and counted once
    # A call.
    WRONG_TOKEN = "wrong_token"  # noqa: S105 -- the name of a cause
    WRONG_IDENTITY = "wrong_identity"  # a certificate of another job, or one that may only enrol, or none of ours
    REVOKED = "revoked"
    EXPIRED = "expired"
    NO_SESSION = "no_session"  # closed, displaced, or somebody else's
    WRONG_VERSION = "wrong_version"
    JOIN = "join"  # a pool, client or name that can't be, or a worker that doesn't know the job's codecs
    ENROLMENT = "enrolment"
    ATTENDANCE = "attendance"  # a bridge that is none, or says what can't be
    NO_MODEL = "no_model"  # a version that is no longer given out, or an offset outside of it

    @property
    def is_of_an_update(self) -> bool:
        """Whether an update was refused, and not the call that would have brought it, or something else."""
        return self in _OF_UPDATES

    @classmethod
    def of(cls, cause: Cause) -> Refused:
        """Of an update that was refused on the wire."""
        return cls[cause.name]


_OF_UPDATES = frozenset(Refused[cause.name] for cause in Cause) | {Refused.DAMAGED, Refused.REPEATED}


class Refusals:
    """How often each has happened since this coordinator began. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[Refused] = Counter()

    def count(self, cause: Refused) -> None:
        with self._lock:
            self._counts[cause] += 1

    def totals(self) -> Mapping[Refused, int]:
        """Of every cause, those that never happened included."""
        with self._lock:
            return {cause: self._counts[cause] for cause in Refused}
