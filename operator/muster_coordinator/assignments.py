"""Names and seeds of assignments: a pure function of the job, so that a restarted coordinator asks for the same work.

A worker that holds an update under an assignment's id hands it in again instead of training; a client's seed depends on
nothing but the job's seed, the client and the round, so two runs of one seed train alike whatever failed in between.
"""

from __future__ import annotations

import hashlib

from muster_coordinator.instructions import Scope
from muster_coordinator.records import AssignmentId
from muster_spec.clients import ClientId


def training_id(round_number: int, attempt: int, client: ClientId) -> AssignmentId:
    """Names the training of one client in one attempt at a round."""
    return AssignmentId(f"{round_number}.{attempt}.{client}")


def evaluation_id(round_number: int, scope: Scope, client: ClientId) -> AssignmentId:
    """Names one client's measurement of the model of a round."""
    return AssignmentId(f"{round_number}.{scope.value}.{client}")


def client_of(assignment: AssignmentId) -> ClientId:
    """Whose assignment this is, as its id says; an id that is not ours gives a name that no client has."""
    return ClientId(assignment.split(".", 2)[-1])


def round_of(assignment: AssignmentId) -> int:
    """The round that this training is for."""
    return int(assignment.split(".", 1)[0])


def training_seed(job_seed: int, ordinal: int, round_number: int) -> int:
    """63 bits that fit every integer type on the way to the client."""
    digest = hashlib.blake2b(f"{job_seed}/{ordinal}/{round_number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def parts_seed(job_seed: int, round_number: int) -> int:
    """63 bits from which the parts of the model are drawn that clients train in this round, in every attempt alike."""
    digest = hashlib.blake2b(f"parts/{job_seed}/{round_number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
