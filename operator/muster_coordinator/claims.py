"""What a worker may claim: counts, metrics and words, each held against a bound before it is believed or kept."""

from __future__ import annotations

from collections.abc import Mapping

from muster_coordinator.records import AssignmentId, Losses
from muster_coordinator.sessions import JoinWish
from muster_wire.errors import Cause, PayloadError
from muster_wire.trust.identity import Identity
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.version import Version

MAX_NAME = 200
MAX_REASON = 2000
MAX_METRICS = 64
MAX_HELD = 100_000
MAX_EXAMPLES = 2**40
MAX_METRIC = 1e100  # nothing measured comes near it, and sums over all examples of all clients stay far below infinity


def problem_with_join(request: pb.JoinRequest) -> str | None:
    """What is too long or too strange to be kept."""
    checks: tuple[tuple[bool, str], ...] = (
        (
            0 < len(request.worker) <= MAX_NAME and request.worker.isprintable(),
            "a worker's name is short and printable",
        ),
        (len(request.device) <= MAX_NAME and request.device.isprintable(), "a device's name is short and printable"),
        (len(request.pool) <= MAX_NAME and request.pool.isprintable(), "a pool's name is short and printable"),
        (len(request.held_assignments) <= MAX_HELD, f"no worker holds more than {MAX_HELD} updates"),
    )
    return next((problem for fine, problem in checks if not fine), None)


def wish_of(request: pb.JoinRequest, identity: Identity | None, version: Version) -> JoinWish:
    """What a worker asks for in which no problem was found."""
    return JoinWish(
        request.worker,
        request.pool,
        tuple(request.indices),
        request.capacity,
        identity,
        version,
        request.confirms_end,
        leases_move=request.leases_move,
        share=request.share,
    )


def held_by(request: pb.JoinRequest) -> tuple[AssignmentId, ...]:
    """The updates that a worker says it holds, as far as somebody may have asked for them."""
    return tuple(AssignmentId(name) for name in request.held_assignments if len(name) <= 2 * MAX_NAME)


def problem_with_numbers(examples: int, metrics: Mapping[str, float]) -> PayloadError | None:
    """What can't be believed in the counts and metrics of a client's training."""
    unbelievable = problem_with_counts(examples, metrics)
    if unbelievable:
        return unbelievable
    for name, value in metrics.items():
        if not is_measured(value):
            diverged = f"metric {name} is {value}: the training diverged; a lower learning rate may help"
            return PayloadError(Cause.NOT_FINITE, diverged)
    return None


def problem_with_counts(examples: int, metrics: Mapping[str, float]) -> PayloadError | None:
    """The same of an evaluation, in which a metric may well be undefined: an AUC where there is one class only."""
    if examples > MAX_EXAMPLES:
        return PayloadError(Cause.MALFORMED, f"{examples} examples are more than anybody has")
    if len(metrics) > MAX_METRICS:
        return PayloadError(Cause.MALFORMED, f"{len(metrics)} metrics are more than the {MAX_METRICS} allowed")
    if any(len(name) > MAX_NAME or not name.isprintable() for name in metrics):
        return PayloadError(Cause.MALFORMED, "a metric's name is short and printable")
    return None


def is_measured(value: float) -> bool:
    """Whether this is a number that anybody can have measured, and that can be averaged with others."""
    return abs(value) <= MAX_METRIC


def losses_of(offer: pb.Offer) -> Losses | None:
    """What a client says it measured for its probe; None unless all of it is of use: the update is none the worse."""
    probe = offer.probe
    losses = Losses(before=probe.before, after=probe.after, fewer=probe.fewer)
    is_whole = offer.HasField("probe") and all(map(is_measured, (losses.before, losses.after, losses.fewer)))
    return losses if is_whole else None


def one_line(text: str) -> str:
    """A stranger's words, fit for a log: one printable line of bounded length."""
    words = " ".join(text[:MAX_REASON].split())
    return "".join(character for character in words if character.isprintable())
