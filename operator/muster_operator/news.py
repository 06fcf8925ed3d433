"""Which events about a job are worth a look. Its coordinator tells of progress every second, and nothing follows from
most of that: with a thousand jobs under way the operator would do little else than look at them.

An event that is taken for no news by mistake costs nothing but time: every job is looked at now and then anyway.
"""

from __future__ import annotations

from muster_operator.objects import Object, dig, digest, is_going
from muster_operator.queue import JobKey


class News:
    """Remembers, in a few bytes, what was so at the last event about each job."""

    def __init__(self) -> None:
        self._known: dict[JobKey, str] = {}

    def is_in(self, key: JobKey, job: Object) -> bool:
        """Whether this event says something that a pass acts on, or shows."""
        heard = digest(_of_interest(job))
        is_new = self._known.get(key) != heard
        self._known[key] = heard
        return is_new

    def forget(self, key: JobKey) -> None:
        """The job is gone."""
        self._known.pop(key, None)


def _of_interest(job: Object) -> list[object]:
    """All but how far it got; and of that, what is told on: to the pools, and when the job rests."""
    status, metadata = job.get("status") or {}, job["metadata"]
    training = status.get("training") or {}
    return [
        metadata["uid"],
        {name: metadata.get(name) for name in ("generation", "labels", "annotations", "finalizers")},
        is_going(job),
        job.get("spec"),
        {name: value for name, value in status.items() if name != "training"},
        [training.get(name) for name in ("reason", "message")],
        dig(training, "clients", "pools"),
        training.get("round") if dig(job, "spec", "suspend") else None,
    ]
