"""Models and updates that fit one message: models go along with orders, updates are handed in whole."""

from coordinating import TOKEN, commits_in, coordinator, errors_of, write_job
from muster.connection import Connection
from muster.credentials import Fixed, Material
from proxying import CALM, Direction, Proxy, Weather
from remembering import Worker
from running import TASKS

VALUES = 1_000
ROUNDS = 12
GIVE_UP_S = 60
JOB = {
    "task": {
        "entrypoint": "drifting:Drifting",
        "config": {"values": VALUES},
        "source": {"type": "Path", "path": {"path": str(TASKS)}},
    },
    "rounds": {"total": ROUNDS, "deadlineSeconds": 60},
    "compression": {
        "up": {"codecs": [{"type": "TopK", "topK": {"share": 0.5}}, {"type": "Int8"}]},
        "down": {"codecs": [{"type": "Int8"}]},
        "deltas": True,
    },
}


class Counting(Connection):
    """The real one, which counts the models that it had to fetch."""

    def __init__(self, address):
        super().__init__(address, TOKEN, Fixed(Material()))
        self.fetched = 0

    def fetch(self, digest, holding):
        holding.want(digest)
        self.fetched += not holding.is_there
        super().fetch(digest, holding)


def often(connection, direction):
    """The first connections break on the way down, later ones on the way up: after a round or two each."""
    way, at = (Direction.DOWN, 2_500 + 450 * connection) if connection < 3 else (Direction.UP, 1_300 + 350 * connection)
    return Weather(at) if direction is way and connection < 6 else CALM


def run(folder, forecast=None):
    """A job of one client; its commits, the memory that it ends with, and how it came by its models."""
    folder.mkdir()
    with coordinator(folder, write_job(folder, clients=1, **JOB)) as running:
        proxy = Proxy(running.address, forecast) if forecast else Proxy(running.address)
        with proxy:
            connection = Counting(proxy.address)
            worker = Worker(connection, (0,), VALUES, GIVE_UP_S)
            ending = worker.join()
            assert ending is not None, errors_of(folder)
            assert ending.code == 0, ending
            assert running.wait() == 0, errors_of(folder)
    return commits_in(folder / "storage"), worker.memories(), connection.fetched, proxy


def test_small_models_need_no_fetch(tmp_path):
    commits, _, fetched, proxy = run(tmp_path / "calm")
    assert fetched == 0
    assert [len(commit.used) for commit in commits] == [1] * (ROUNDS + 1)
    down = [commit.bytes_down for commit in commits[1:]]
    assert min(down) > VALUES  # a byte for each value, and more: counted all the same
    assert sum(down) < proxy.down_bytes


def test_cuts_leave_no_trace_in_small_models_either(tmp_path):
    calm, memories, _, _ = run(tmp_path / "calm")
    cut, memories_after, _, proxy = run(tmp_path / "cut", often)
    assert len(proxy.cuts) >= 3
    assert {each.direction for each in proxy.cuts} == set(Direction)
    assert [commit.model for commit in cut] == [commit.model for commit in calm]
    assert memories_after == memories
