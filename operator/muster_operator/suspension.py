"""How a job is suspended: its coordinator hears of the wish by itself, ends the round that is open, and leaves.

Until then its pods stay. The wish is only given so much time: a coordinator that doesn't hear of it is stopped in the
middle of its round, which costs that round's unfinished work and nothing else.
"""

from __future__ import annotations

from muster_operator.build.common import COORDINATOR, child_name
from muster_operator.diagnosis import ending_of, is_ready
from muster_operator.difference import SUSPENDED
from muster_operator.objects import annotation_of, is_going
from muster_operator.observed import Observed
from muster_operator.pinning import Pinned

_MARGIN_S = 60.0  # to hear of it, to make the model, to store it


def last_moment(pinned: Pinned, since: float) -> float:
    """When a job that was to be suspended at that time is stopped, whatever it does."""
    spec = pinned.job.spec
    return since + spec.rounds.deadline_seconds + spec.evaluation.timeout_seconds + _MARGIN_S


def is_to_rest(seen: Observed, pinned: Pinned, since: float, now: float) -> bool:
    """Whether the job's pods are to go now. `since`: when the wish to suspend it was first seen."""
    if not seen.is_suspended:
        return False
    job = seen.child("Job", child_name(seen.name, COORDINATOR))
    if job is None or annotation_of(job, SUSPENDED) or now >= last_moment(pinned, since):
        return True
    return not any(is_ready(pod) and not ending_of(pod) and not is_going(pod) for pod in seen.pods_of(job))
