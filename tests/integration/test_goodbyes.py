"""The end of a job: every worker hears of it, even one whose stream breaks under the very words."""

import pytest

from coordinating import TOKEN, coordinator, errors_of, workers, write_job
from muster.connection import Connection
from muster.credentials import Fixed, Material
from muster_coordinator.rehearsal import RehearsalWorker
from proxying import Cut, Direction, Proxy
from remembering import Worker
from running import TASKS

LAST_WORDS = b"all 2 rounds are done"  # of the job, in the last orders and in nothing else that a coordinator sends
NOT_CONFIRMED = "has not confirmed it"
VALUES = 1000
GIVE_UP_S = 60  # far less than a lease
DRIFTING = {
    "entrypoint": "drifting:Drifting",
    "config": {"values": VALUES},
    "source": {"type": "Path", "path": {"path": str(TASKS)}},
}


class CutUnderLastWords(Proxy):
    """Passes everything on but the last orders: the connection breaks with them, so often."""

    def __init__(self, target, times):
        super().__init__(target)
        self._times = times

    async def _pass(self, way, piece):
        if way.direction is Direction.DOWN and LAST_WORDS in piece and len(self.cuts) < self._times:
            self.cuts.append(Cut(way.connection, way.direction, way.passed, len(piece)))
            way.break_off()
        await super()._pass(way, piece)


class Confirming(Connection):
    """The real one, which counts what it confirmed."""

    def __init__(self, address):
        super().__init__(address, TOKEN, Fixed(Material()))
        self.joins = self.confirmed = 0

    def join(self, request):
        self.joins += 1
        return super().join(request)

    def confirm_end(self):
        super().confirm_end()
        self.confirmed += 1


@pytest.mark.parametrize("times", [1, 3])
def test_a_worker_whose_stream_breaks_under_the_last_orders_hears_them_on_the_next(tmp_path, times):
    job = write_job(tmp_path, clients=1, task=DRIFTING)
    with coordinator(tmp_path, job) as running, CutUnderLastWords(running.address, times) as proxy:
        connection = Confirming(proxy.address)
        ending = Worker(connection, (0,), VALUES, GIVE_UP_S).join()
        assert len(proxy.cuts) == times
        assert ending is not None, errors_of(tmp_path)
        assert (ending.code, ending.reason.encode()) == (0, LAST_WORDS)
        assert running.wait() == 0, errors_of(tmp_path)
    assert connection.joins == 1 + times
    assert connection.confirmed == 1
    assert NOT_CONFIRMED not in errors_of(tmp_path)


class Silent(RehearsalWorker):
    """Says that it confirms the end, and doesn't."""

    async def confirm_end(self):
        pass


class Older(Silent):
    """Of the minor version before."""

    def introduce(self):
        request = super().introduce()
        request.version.minor -= 1
        request.confirms_end = False
        return request


@pytest.mark.parametrize(("kind", "is_missed"), [(RehearsalWorker, False), (Older, False), (Silent, True)])
def test_who_can_confirm_the_end_is_waited_for(tmp_path, kind, is_missed):
    """A coordinator that waits for an older worker would find that it has not confirmed anything, and say so."""
    job = write_job(tmp_path, clients=1)
    with coordinator(tmp_path, job) as running, workers(running.address, 1, {0: kind}) as one:
        assert one.join() == [LAST_WORDS.decode()]
        assert running.wait() == 0, errors_of(tmp_path)
    assert (NOT_CONFIRMED in errors_of(tmp_path)) is is_missed
