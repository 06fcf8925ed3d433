"""What workers say of themselves, read as hostile: bounded before anything of it is kept."""

from __future__ import annotations

from muster_coordinator.claims import one_line
from muster_lobby.attendance import MAX_REFUSALS, Refusal, Standing
from muster_wire.v1 import lobby_pb2 as pb

MAX_NAME = 128
MAX_MESSAGE = 512
Because = pb.SiteRefusal.Because

REASONS = {
    Because.BECAUSE_UNSPECIFIED: "NotAllowed",
    Because.BECAUSE_JOB: "JobNotAllowed",
    Because.BECAUSE_ENTRYPOINT: "EntrypointNotAllowed",
    Because.BECAUSE_CODE: "CodeNotAllowed",
    Because.BECAUSE_IMAGE: "ImageNotAllowed",
    Because.BECAUSE_PRIVACY: "PrivacyTooWeak",
    Because.BECAUSE_LIMIT: "LimitExceeded",
    Because.BECAUSE_TERMS: "TermsNotUnderstood",
    Because.BECAUSE_CANNOT: "WorkerGaveUp",
}
"""Words for a status. A reason that a newer worker gives is the first."""


def problem_with_worker(name: str) -> str:
    """Why a worker can't be called so; empty if it can."""
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        return f"a worker's name has 1 to {MAX_NAME} printable characters"
    return ""


def standing_from(message: pb.Standing) -> Standing:
    """As much of it as is kept."""
    return Standing(
        job=message.job[:MAX_NAME],
        refusals=tuple(_refusal(each) for each in message.refusals[:MAX_REFUSALS] if len(each.job) <= MAX_NAME),
    )


def _refusal(message: pb.SiteRefusal) -> Refusal:
    reason = REASONS.get(message.because, REASONS[Because.BECAUSE_UNSPECIFIED])
    return Refusal(message.job, reason, one_line(message.message)[:MAX_MESSAGE])
