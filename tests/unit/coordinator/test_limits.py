import pytest

from muster_coordinator.limits import frame_bytes, small_bytes


@pytest.mark.parametrize(
    ("clients", "size"), [(1, 2**20), (8, 2**20), (9, 2**19), (32, 2**18), (128, 2**16), (10_000, 2**16)]
)
def test_frames_of_all_clients_together_take_the_same_room(clients, size):
    assert frame_bytes(clients) == size


@pytest.mark.parametrize(("clients", "size"), [(1, 2**16), (128, 2**16), (1024, 2**13), (2**24, 0)])
def test_small_uploads_of_all_clients_together_stay_small(clients, size):
    assert small_bytes(clients) == size
