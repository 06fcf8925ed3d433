"""Connections that break at any byte, hundreds of them, while both sides remember: clients what their codecs left out
of each update, and everybody the version from which the next one is a change.

Real workers talk to a real coordinator through proxies that cut at random, in both directions; the same job then runs
undisturbed. Both have to be the same, to the bit: every round's updates, every model, every client's memory.
"""

import os
import random
import sys
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from coordinating import EXHAUSTIVE, TOKEN, commits_in, coordinator, errors_of, write_job
from muster.connection import Connection
from muster.credentials import Fixed, Material
from muster.errors import ConnectionBrokenError
from muster_coordinator.durable import unseal
from muster_coordinator.records import RoundPlan
from proxying import CALM, Direction, Proxy, Weather
from remembering import Worker
from running import TASKS
from trusting import Trust

CUTS, ROUNDS = (1000, 34) if os.environ.get(EXHAUSTIVE) else (300, 12)
WORKERS, CLIENTS_OF_EACH = 16, 8
CLIENTS = WORKERS * CLIENTS_OF_EACH  # so many that frames are as short as they get, and most transfers have several
VALUES = 80_000
UP_FRAME_BYTES = 2**14
GIVE_UP_S = 240

TOP = {"type": "TopK", "topK": {"share": 0.3, "momentum": 0.5, "warmUpRounds": 2}}
JOB = {
    "task": {
        "entrypoint": "drifting:Drifting",
        "config": {"values": VALUES},
        "source": {"type": "Path", "path": {"path": str(TASKS)}},
    },
    "rounds": {"total": ROUNDS, "deadlineSeconds": 600, "cohort": 32},
    "compression": {
        "up": {"codecs": [TOP, {"type": "Int8"}, {"type": "Lossless"}]},
        "down": {"codecs": [{"type": "Int8"}, {"type": "Lossless"}]},
        "deltas": True,
    },
    "evaluation": {"every": 1, "central": {"type": "Never"}, "federated": True},
}


class Storm:
    """Where connections break: each at one byte, drawn from all those that a round moves, until enough have broken."""

    def __init__(self, seed, cuts):
        self.proxies = []
        self._seed = seed
        self._cuts = cuts

    @property
    def landed(self):
        return [cut for proxy in self.proxies for cut in proxy.cuts]

    def over(self, worker):
        """The weather over one worker's connections. The first one of all gets as far as to join."""
        calm = set()

        def forecast(connection, direction):
            if len(self.landed) >= self._cuts:
                calm.add(connection)
            way, at = self._draw(worker, connection)
            if way is not direction or connection in calm:
                return CALM
            return Weather(at + 4096 * (connection == 0), by_reset=bool(at % 2))

        return forecast

    def _draw(self, worker, connection):
        lot = random.Random(f"{self._seed} {worker} {connection}")
        way = lot.choice(list(Direction))
        small = lot.random() < 0.15  # within the calls that have no frames
        return way, lot.randint(1, 1_500 if small else 100_000 if way is Direction.DOWN else 25_000)


@dataclass
class Hits:
    """Calls that a cut broke, by kind; transfers that went on in their middle; models fetched as changes of another."""

    broken: Counter
    resumed: Counter
    changes: int = 0


class Watched(Connection):
    """A worker's connection that remembers what broke. Its frames are as short as it likes: that is the sender's."""

    def __init__(self, address, hits, material):
        super().__init__(address, "" if material.pair else TOKEN, Fixed(material))
        self._hits = hits

    @property
    def frame_bytes(self):
        return UP_FRAME_BYTES

    @contextmanager
    def _noting(self, kind):
        try:
            yield
        except ConnectionBrokenError:
            self._hits.broken[kind] += 1
            raise

    def join(self, request):
        with self._noting("Join"):
            return super().join(request)

    def listen(self, opened):
        with self._noting("Listen"):
            yield from super().listen(opened)

    def fetch(self, digest, holding):
        wish = holding.want(digest)
        self._hits.resumed["Fetch"] += wish.offset > 0
        self._hits.changes += bool(wish.held)
        with self._noting("Fetch"):
            return super().fetch(digest, holding)

    def offer(self, offer, transfer):
        with self._noting("Submit"):
            return super().offer(offer, Noted(transfer, self._hits))

    def report(self, *arguments, **named):
        with self._noting("Report"):
            return super().report(*arguments, **named)

    def beat(self, *arguments):
        with self._noting("Beat"):
            return super().beat(*arguments)


class Noted:
    """A transfer that remembers where it was asked to go on."""

    def __init__(self, transfer, hits):
        self._transfer = transfer
        self._hits = hits
        self.header, self.frame_bytes = transfer.header, transfer.frame_bytes

    def requests(self, offset=0):
        self._hits.resumed["Submit"] += offset > 0
        return self._transfer.requests(offset)


def clients_of(number):
    return tuple(range(number * CLIENTS_OF_EACH, (number + 1) * CLIENTS_OF_EACH))


def run(folder, storm, rounds=ROUNDS, *, is_secure=False):
    """A job run to its end: its coordinator's history, its clients' memories, and what was hit on the way."""
    folder.mkdir()
    hits, memories = Hits(Counter(), Counter()), {}
    trust = Trust(folder) if is_secure else None
    job = write_job(folder, clients=CLIENTS, **JOB | {"rounds": JOB["rounds"] | {"total": rounds}})
    with coordinator(folder, job, security=trust and trust.flags) as running, ExitStack() as stack:
        for number in range(WORKERS):
            storm.proxies.append(stack.enter_context(Proxy(running.address, storm.over(number))))
        workers = [
            Worker(
                Watched(proxy.address, hits, material_of(trust, clients_of(number))),
                clients_of(number),
                VALUES,
                GIVE_UP_S,
            )
            for number, proxy in enumerate(storm.proxies)
        ]
        for worker in workers:
            ending = worker.join()
            assert ending is not None, (len(storm.landed), running.events[-3:])
            assert ending.code == 0, ending
            memories |= worker.memories()
        assert running.wait() == 0, errors_of(folder)
    return History(commits_in(folder / "storage"), plans_in(folder / "storage")), memories, hits


def material_of(trust, clients):
    """With a certificate for these clients, where there is anybody to trust."""
    return Material(trust.ca.read_bytes(), trust.pair(indices=clients)) if trust else Material()


def plans_in(storage):
    return [unseal(path.read_bytes(), RoundPlan) for path in sorted((storage / "plans").glob("*.json"))]


@dataclass
class History:
    """What a coordinator left behind."""

    commits: list
    plans: list

    @property
    def models(self):
        return [commit.model for commit in self.commits]

    @property
    def used(self):
        """Every update that was counted, in the order in which it was."""
        return [[update.assignment for update in commit.used] for commit in self.commits]

    @property
    def asked(self):
        return [[planned.assignment for planned in plan.cohort] for plan in self.plans]


def trainings_here():
    """Of every job that this process has had part in."""
    return sys.modules["drifting"].Drifting.trainings if "drifting" in sys.modules else 0


@pytest.mark.timeout(600)
def test_cuts_leave_no_trace(tmp_path):
    storm, calm = Storm(seed=7, cuts=CUTS), Storm(seed=7, cuts=0)
    before = trainings_here()
    cut, memories, hits = run(tmp_path / "cut", storm)
    trainings = trainings_here() - before
    whole, memories_of_whole, _ = run(tmp_path / "whole", calm)

    assert not calm.landed
    assert len(storm.landed) >= CUTS
    ways = Counter(cut.direction for cut in storm.landed if cut.withheld)  # with bytes of a message under way
    assert min(ways[way] for way in Direction) > CUTS / 4, ways
    assert hits.broken.keys() >= {"Join", "Listen", "Fetch", "Submit", "Report"}, hits
    assert min(hits.broken[kind] for kind in ("Fetch", "Submit")) > CUTS / 8, hits
    assert min(hits.resumed[kind] for kind in ("Fetch", "Submit")) > CUTS / 50, hits
    assert hits.changes > ROUNDS * WORKERS / 2, hits

    assert cut.used == cut.asked  # each update that was asked for, once, and no other
    assert trainings == sum(map(len, cut.asked[1:]))  # none was lost and trained again
    assert cut.used[1:] == whole.used[1:]  # whoever came first made the first model
    assert cut.models == whole.models
    assert memories.keys() == {f"p/{index}" for index in range(CLIENTS)}
    assert memories == memories_of_whole
    assert any(memory["residual"] for memory in memories.values())


@pytest.mark.timeout(600)
def test_nor_do_they_over_mutual_tls(tmp_path):
    """Fewer of them. Records are cut in their middle, and what is resumed begins with a handshake."""
    storm, calm = Storm(seed=8, cuts=CUTS // 5), Storm(seed=8, cuts=0)
    cut, memories, hits = run(tmp_path / "cut", storm, ROUNDS // 3, is_secure=True)
    whole, memories_of_whole, _ = run(tmp_path / "whole", calm, ROUNDS // 3)

    assert len(storm.landed) >= CUTS // 5
    assert min(hits.broken[kind] for kind in ("Fetch", "Submit")) > 0, hits
    assert min(hits.resumed[kind] for kind in ("Fetch", "Submit")) > 0, hits
    assert cut.used == cut.asked
    assert cut.models == whole.models
    assert memories == memories_of_whole
    assert any(memory["residual"] for memory in memories.values())
