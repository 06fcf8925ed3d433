"""What is there against what should be there: the actions between the two."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from muster_operator.actions import Action, Apply, Create, Delete, Patch
from muster_operator.build.common import FEWER_SINCE, INPUTS, has_queue
from muster_operator.ledger import read_ledger
from muster_operator.objects import (
    Key,
    Object,
    annotation_of,
    condition_of,
    contains,
    dig,
    is_controlled_by,
    is_going,
)
from muster_operator.observed import Observed

SUSPENDED = "operator.muster.dev/suspended"
"""Annotation of a Job that we have suspended. One without it was suspended by somebody else, such as a queue."""

_REMEMBER = frozenset({"ConfigMap", "ServiceAccount"})


def difference(seen: Observed, desired: Mapping[Key, Object], suspended: frozenset[Key]) -> Iterator[Action]:
    """Actions that make the children what they should be; what is on its way out is waited for."""
    for key, want in desired.items():
        have = seen.children.get(key)
        if key in seen.strangers or (have is not None and is_going(have)):
            continue
        if key.kind == "Job":
            yield from _job(key, have, want, is_suspended=key in suspended)
        elif key.kind == "PersistentVolumeClaim":
            yield from () if have else (Create(want),)
        elif have is None or not _is_right(key, have, want):
            yield Apply(want)


def leftovers(seen: Observed, desired: Collection[Key]) -> Iterator[Delete]:
    """Children of ours that should no longer be there."""
    for key, have in sorted(seen.children.items()):
        if key not in desired and is_controlled_by(have, seen.uid) and not is_going(have):
            yield Delete(key, have["metadata"]["uid"], "no longer a part of the job")


def _is_right(key: Key, have: Object, want: Object) -> bool:
    """Whether all is there; of the ledger and its copy, whether nothing more is."""
    as_wanted = want | {"metadata": have["metadata"] | want["metadata"]}
    return contains(have, want) and (key.kind not in _REMEMBER or read_ledger(have) == read_ledger(as_wanted))


def _job(key: Key, have: Object | None, want: Object, *, is_suspended: bool) -> Iterator[Action]:
    if is_suspended and has_queue(want["metadata"].get("labels")):
        # A queue starts again whatever it has admitted. Only what isn't there rests, and gives its quota back.
        yield from () if have is None else (Delete(key, have["metadata"]["uid"], "its queue would start it again"),)
    elif have is None:
        yield Create(_suspended(want) if is_suspended else want)
    elif annotation_of(have, INPUTS) != annotation_of(want, INPUTS):
        yield Delete(key, have["metadata"]["uid"], "its pods would be made from something else now")
    elif not is_finished(have):
        patch = _changes(have, want, is_suspended=is_suspended)
        if patch:
            yield Patch(key, have["metadata"]["uid"], patch)


def is_finished(job: Object) -> bool:
    """Whether a Job has ended by itself."""
    return condition_of(job, "Complete") is not None or condition_of(job, "Failed") is not None


def is_queued(job: Object) -> bool:
    """Whether somebody else holds the Job back."""
    return bool(dig(job, "spec", "suspend")) and not annotation_of(job, SUSPENDED)


def _suspended(job: Object) -> Object:
    annotations = job["metadata"]["annotations"] | {SUSPENDED: "true"}
    return job | {
        "metadata": job["metadata"] | {"annotations": annotations},
        "spec": job["spec"] | {"suspend": True},
    }


def _changes(have: Object, want: Object, *, is_suspended: bool) -> Object:
    """The fields of a Job that may change, and that we may change: how many pods, and whether they run."""
    spec, annotations = _counts(have, want), dict[str, str | None]()
    if annotation_of(have, FEWER_SINCE) != annotation_of(want, FEWER_SINCE):
        annotations[FEWER_SINCE] = annotation_of(want, FEWER_SINCE) or None
    if is_suspended and not dig(have, "spec", "suspend"):
        spec, annotations = spec | {"suspend": True}, annotations | {SUSPENDED: "true"}
    elif not is_suspended and annotation_of(have, SUSPENDED):
        spec, annotations = spec | {"suspend": False}, annotations | {SUSPENDED: None}
    patch: Object = {"spec": spec} if spec else {}
    return patch | ({"metadata": {"annotations": annotations}} if annotations else {})


def _counts(have: Object, want: Object) -> Object:
    """How many pods are wanted, where that differs. An indexed Job's two numbers change together, but for a rest: with
    nothing to complete it would be over.
    """
    names = ("completions", "parallelism") if want["spec"].get("parallelism") else ("parallelism",)
    return {name: want["spec"][name] for name in names if dig(have, "spec", name) != want["spec"].get(name)}
