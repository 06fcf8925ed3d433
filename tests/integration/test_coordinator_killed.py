"""Kill -9 at every instruction and around every durable write: a job goes on, and nobody trains twice.

The coordinator is launched with an observer that kills its own process at the n-th place; workers stay alive, as the
design promises for clients. Then it is started again on the same storage and must reach the end that an undisturbed
run reaches.
"""

import itertools
import shutil
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from coordinating import MORTAL, a_third, commits_in, coordinator, errors_of, final_model, workers, write_job

EVALUATION = {"every": 2, "central": {"type": "Auto"}, "federated": True}
UNEVEN = 3  # places by which two runs differ, as their updates arrive in other orders


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    (code,) = run_killed_at(folder, write_job(folder, evaluation=EVALUATION), [0])
    assert code == 0, errors_of(folder)
    return folder


def run_killed_at(folder, job, places):
    """Coordinators one after the other on one storage, each with its last place; their exit codes."""
    address = f"127.0.0.1:{free_port()}"
    codes = []
    with workers(address) as three:
        for number, place in enumerate(places):
            launcher = (MORTAL, place, folder / f"places.{number}")
            with coordinator(folder, job, address, launcher) as running:
                codes.append(running.wait())
            if codes[-1] == 0:
                break
        three.join()
        trainings = [worker.trainings for worker in three.workers]
        settled = [worker.settled for worker in three.workers]
    check_nobody_worked_twice(trainings, settled)
    return codes


def check_nobody_worked_twice(trainings, settled):
    assert {count for counter in trainings for count in counter.values()} == {1}
    made = sorted(name for counter in trainings for name in counter)
    assert [name for name in made if not name.startswith("0.")] == [f"{r}.0.p/{c}" for r in (1, 2) for c in range(3)]
    assert {fate for fates in settled for fate in fates.values()} == {True}


def check_same_end(folder, undisturbed):
    ours, theirs = commits_in(folder / "storage"), commits_in(undisturbed / "storage")
    assert [commit.round for commit in ours] == [0, 1, 2]
    assert [commit.attempt for commit in ours] == [0, 0, 0]
    used = [[update.assignment for update in commit.used] for commit in ours]
    assert used[1:] == [[update.assignment for update in commit.used] for commit in theirs[1:]]
    mine, model = final_model(folder / "storage"), final_model(undisturbed / "storage")
    np.testing.assert_allclose(mine.trainable, model.trainable, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(mine.float_buffers, model.float_buffers, rtol=1e-6)
    np.testing.assert_array_equal(mine.integers, model.integers)
    assert (folder / "storage" / "evaluations" / "000002.json").exists()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def places_in(folder):
    return (folder / "places.0").read_text().splitlines()


@pytest.mark.timeout(600)
def test_killed_at_every_place(tmp_path, undisturbed):
    total = len(places_in(undisturbed))
    assert total > 90

    def one(place):
        folder = tmp_path / str(place)
        folder.mkdir()
        job = write_copy(undisturbed, folder)
        codes = run_killed_at(folder, job, [place, 0])
        reached = len(places_in(folder))
        if codes[0] == 0:
            assert total - UNEVEN <= reached < place  # this run had fewer places: there was nothing left to die at
        else:
            assert codes == [-signal.SIGKILL, 0], errors_of(folder)
            assert reached == place
        check_same_end(folder, undisturbed)
        shutil.rmtree(folder)
        return codes[0]

    places = a_third(range(1, total + UNEVEN + 1))
    with ThreadPoolExecutor(2) as pool:
        codes = dict(zip(places, pool.map(one, places), strict=True))
    assert {codes[place] for place in places if place <= total - UNEVEN} == {-signal.SIGKILL}


def test_killed_again_and_again(tmp_path, undisturbed):
    """Each coordinator gets a little further than the one before; each dies until one comes to the end."""
    job = write_copy(undisturbed, tmp_path)
    codes = run_killed_at(tmp_path, job, itertools.count(18, 4))
    assert len(codes) > 3
    assert codes == [-signal.SIGKILL] * (len(codes) - 1) + [0]
    check_same_end(tmp_path, undisturbed)


def write_copy(undisturbed, folder):
    job = folder / "job.json"
    shutil.copyfile(undisturbed / "job.json", job)
    return job
