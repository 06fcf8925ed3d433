import numpy as np
import pytest
import torch

from muster.client_state import FolderBook, HeldUpdate, MemoryBook, Offered
from muster.errors import DataError
from muster_spec.clients import ClientId
from muster_wire.feedback import Memory

CLIENT, OTHER = ClientId("p/0"), ClientId("p/1")


def update(assignment="3.0.p/0", client=CLIENT, value=1.0, memory=None):
    offered = Offered(
        assignment=assignment,
        client=client,
        pipeline=(4, 1, 256),
        layout="{}",
        examples=5,
        metrics={"loss": 0.5},
    )
    state = {"head.weight": torch.full((2, 3), value, dtype=torch.bfloat16)}
    return HeldUpdate(offered, memoryview(b"\x00payload\xff"), state, memory)


def memory(*residual, momentum=(), participations=1):
    return Memory(np.array(residual, np.float32), np.array(momentum, np.float32), participations)


@pytest.fixture(params=["memory", "folder"])
def book(request, tmp_path):
    book = MemoryBook() if request.param == "memory" else FolderBook(tmp_path, "job-1")
    book.adopt(CLIENT)
    return book


def value_of(book, client=CLIENT):
    state = book.state(client)
    return state["head.weight"][0, 0].item() if state else None


def test_a_kept_update_is_found_whole(book):
    book.keep(update())
    found = book.find("3.0.p/0")
    assert book.held() == {"3.0.p/0"}
    assert found.offered == update().offered
    assert bytes(found.payload) == b"\x00payload\xff"
    assert found.state_after["head.weight"].dtype == torch.bfloat16


def test_state_moves_when_the_update_was_used_and_only_then(book):
    assert value_of(book) is None
    book.keep(update())
    assert value_of(book) is None
    book.settle("3.0.p/0", used=True)
    assert value_of(book) == 1.0
    book.keep(update("4.0.p/0", value=2.0))
    assert value_of(book) == 1.0
    book.settle("4.0.p/0", used=False)
    assert value_of(book) == 1.0
    assert book.held() == frozenset()


def test_a_retried_round_keeps_the_state_before_it(book):
    book.keep(update("3.0.p/0", value=1.0))
    book.keep(update("3.1.p/0", value=2.0))
    book.settle("3.0.p/0", used=False)
    book.settle("3.1.p/0", used=True)
    assert value_of(book) == 2.0


def left(book, client=CLIENT, size=2):
    found = book.memory(client, size)
    return found.residual.tolist(), found.momentum.tolist(), found.participations


def test_what_is_left_to_send_moves_with_the_commit_and_only_then(book):
    assert left(book) == ([], [], 0)
    book.keep(update(memory=memory(0.5, -1.0, momentum=(2.0, 3.0))))
    assert left(book) == ([], [], 0)
    book.settle("3.0.p/0", used=True)
    assert left(book) == ([0.5, -1.0], [2.0, 3.0], 1)
    book.keep(update("4.0.p/0", memory=memory(9.0, 9.0, participations=2)))
    book.settle("4.0.p/0", used=False)
    assert left(book) == ([0.5, -1.0], [2.0, 3.0], 1)


def test_an_update_that_leaves_nothing_out_touches_no_memory(book):
    book.keep(update(memory=memory(0.5, -1.0)))
    book.settle("3.0.p/0", used=True)
    book.keep(update("4.0.p/0"))
    book.settle("4.0.p/0", used=True)
    assert left(book) == ([0.5, -1.0], [], 1)


def test_an_update_made_beside_another_one_that_was_used_is_put_right(book):
    """Both sent what was left of round 2: half of it twice, so the next one has to send that much less."""
    book.keep(update("2.0.p/0", memory=memory(4.0, 0.0)))
    book.settle("2.0.p/0", used=True)
    book.keep(update("3.0.p/0", memory=memory(1.0, 10.0, participations=2)))  # 4 was left, 1 is: it sent 3 of that
    book.keep(update("4.0.p/0", memory=memory(2.0, 20.0, participations=2)))
    book.settle("3.0.p/0", used=True)
    assert left(book) == ([1.0, 10.0], [], 2)
    book.settle("4.0.p/0", used=True)
    assert left(book) == ([-1.0, 30.0], [], 3)  # 1 + 2 - 4, and 10 + 20


def test_settling_goes_on_where_a_killed_worker_stopped(tmp_path):
    first = FolderBook(tmp_path, "job-1")
    first.adopt(CLIENT)
    for assignment, residual in (("3.0.p/0", 1.0), ("4.0.p/0", 2.0)):
        first.keep(update(assignment, memory=memory(residual, residual)))
    home = tmp_path / "job-1" / "p-0"
    before = {path: path.read_bytes() for path in home.glob("held-3*")}
    first.settle("3.0.p/0", used=True)
    for path, data in before.items():
        path.write_bytes(data)  # as if it had been killed before the last step
    second = FolderBook(tmp_path, "job-1")
    second.adopt(CLIENT)
    assert second.held() == {"3.0.p/0", "4.0.p/0"}
    second.settle("3.0.p/0", used=True)
    second.settle("4.0.p/0", used=True)
    assert left(second) == ([3.0, 3.0], [], 2)


def test_what_is_left_to_send_outlives_a_killed_worker(tmp_path):
    first = FolderBook(tmp_path, "job-1")
    first.adopt(CLIENT)
    first.keep(update("3.0.p/0", memory=memory(1.0, 2.0, momentum=(3.0, 4.0), participations=7)))
    first.settle("3.0.p/0", used=True)
    first.keep(update("4.0.p/0", memory=memory(5.0, 6.0, participations=8)))
    second = FolderBook(tmp_path, "job-1")
    second.adopt(CLIENT)
    assert left(second) == ([1.0, 2.0], [3.0, 4.0], 7)
    second.settle("4.0.p/0", used=True)
    assert left(second) == ([5.0, 6.0], [], 8)


@pytest.mark.parametrize("damage", ["bytes", "another model"])
def test_a_lost_memory_is_zero_and_said(tmp_path, caplog, damage):
    book = FolderBook(tmp_path, "job-1")
    book.adopt(CLIENT)
    book.keep(update(memory=memory(1.0, 2.0)))
    book.settle("3.0.p/0", used=True)
    if damage == "bytes":
        (tmp_path / "job-1" / "p-0" / "memory.safetensors").write_bytes(b"nonsense")
    assert left(book, size=2 if damage == "bytes" else 3) == ([], [], 0)
    assert "left to send is lost and starts at zero" in caplog.text


def test_clients_have_states_of_their_own(book):
    book.adopt(OTHER)
    book.keep(update())
    book.settle("3.0.p/0", used=True)
    assert value_of(book, OTHER) is None


def test_a_killed_workers_successor_finds_everything(tmp_path):
    first = FolderBook(tmp_path, "job-1")
    first.adopt(CLIENT)
    first.keep(update("2.0.p/0", value=1.0))
    first.settle("2.0.p/0", used=True)
    first.keep(update("3.0.p/0", value=2.0))
    second = FolderBook(tmp_path, "job-1")
    second.adopt(CLIENT)
    assert second.held() == {"3.0.p/0"}
    assert value_of(second) == 1.0
    second.settle("3.0.p/0", used=True)
    assert value_of(second) == 2.0
    another_job = FolderBook(tmp_path, "job-2")
    another_job.adopt(CLIENT)
    assert (another_job.held(), value_of(another_job)) == (frozenset(), None)


def test_a_torn_file_is_an_update_that_was_never_kept(tmp_path):
    book = FolderBook(tmp_path, "job-1")
    book.adopt(CLIENT)
    book.keep(update())
    (held,) = tmp_path.rglob("held-*")
    held.write_bytes(held.read_bytes()[:-4])
    again = FolderBook(tmp_path, "job-1")
    again.adopt(CLIENT)
    assert again.held() == frozenset()


def test_a_damaged_state_is_said(tmp_path):
    book = FolderBook(tmp_path, "job-1")
    book.adopt(CLIENT)
    (tmp_path / "job-1" / "p-0" / "state.safetensors").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"state\.safetensors: can't be read.*start this client's state anew"):
        book.state(CLIENT)


def test_nothing_is_written_outside_the_folder(tmp_path):
    book = FolderBook(tmp_path / "state", "../escape")
    book.adopt(ClientId("../../pool/0"))
    book.keep(update("../../3.0", ClientId("../../pool/0")))
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "state").write_text("a file")
    with pytest.raises(DataError, match="--state needs a folder"):
        FolderBook(tmp_path / "state", "job-1").adopt(CLIENT)
