"""What a bridge may say of its pool, and what it means on the coordinator's clock."""

import pytest

from muster_coordinator.allocations import Allocation
from muster_coordinator.attendance import LONGEST_MS, allocations_of, problem_with
from muster_spec.clients import ClientId
from muster_wire.v1 import federation_pb2 as pb

QUEUED, RUNNING = pb.Allocation.STATE_QUEUED, pb.Allocation.STATE_RUNNING


def request(*allocations, **fields):
    return pb.AttendRequest(pool="hpc", allocations=[pb.Allocation(**each) for each in allocations], **fields)


def test_times_are_on_the_coordinators_clock():
    said = request(
        {"indices": [0, 2], "state": QUEUED, "starts_in_ms": 1500},
        {"indices": [1], "state": QUEUED},
        {"indices": [3], "state": RUNNING, "ends_in_ms": 60_000, "lasts_ms": 3_600_000},
    )
    assert problem_with(said, 4) is None
    queued = Allocation(is_running=False, starts=101.5)
    assert allocations_of(said, 100.0) == {
        ClientId("hpc/0"): queued,
        ClientId("hpc/2"): queued,
        ClientId("hpc/1"): Allocation(is_running=False),
        ClientId("hpc/3"): Allocation(is_running=True, ends=160.0, lasts_s=3600.0),
    }


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (request({"indices": [4], "state": QUEUED}), "clients 0 to 3"),
        (request({"indices": [2**32 - 1], "state": QUEUED}), "clients 0 to 3"),
        (request({"indices": [1, 1], "state": QUEUED}), "one allocation at a time"),
        (request({"indices": [1], "state": QUEUED}, {"indices": [1], "state": RUNNING}), "one allocation at a time"),
        (request({"indices": [1]}), "queued or running"),
        (request({"indices": [1], "state": 77}), "queued or running"),
        (request(*({"state": QUEUED},) * 5), "no more allocations"),
        (request({"indices": [1], "state": RUNNING, "ends_in_ms": LONGEST_MS + 1}), "ten years"),
        (request({"indices": [1], "state": RUNNING, "lasts_ms": 2**64 - 1}), "ten years"),
        (request(log="x" * 65), "name of a log"),
    ],
)
def test_what_cannot_be_is_refused_whole(said, words):
    assert words in problem_with(said, 4)
