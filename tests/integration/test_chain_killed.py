"""Kill -9 around every durable write of a chain of changes: training goes on as if nothing had happened, to the bit."""

import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from coordinating import (
    MORTAL,
    a_third,
    commits_in,
    coordinator,
    errors_of,
    free_address,
    run_in_turn,
    workers,
    write_job,
)


def run(folder, job, places):
    """Nobody warns who goes on and comes to the end."""
    return run_in_turn(folder, job, places, may_warn=lambda number, code: not number or code != 0)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    job = write_job(folder, compression={"preset": "max"}, rounds={"total": 3}, checkpoint={"keep": 9})
    assert run(folder, job, [0]) == [0], errors_of(folder)
    return folder


def models_of(folder):
    return [commit.model for commit in commits_in(folder / "storage")]


@pytest.mark.timeout(600)
def test_killed_at_every_write_of_the_chain(tmp_path, undisturbed):
    names = (undisturbed / "places.0").read_text().splitlines()
    places = [at for at, name in enumerate(names, 1) if name.endswith((".bin", "chain.json"))]
    assert len(places) == 4 * 2 * 4  # of four versions a payload and the record, each in four steps

    def one(place):
        folder = tmp_path / str(place)
        folder.mkdir()
        shutil.copyfile(undisturbed / "job.json", folder / "job.json")
        codes = run(folder, folder / "job.json", [place, 0])
        assert codes == [-signal.SIGKILL, 0], errors_of(folder)
        assert models_of(folder) == models_of(undisturbed)
        shutil.rmtree(folder)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, a_third(places)))


def test_a_chain_that_is_damaged_between_two_coordinators(tmp_path, undisturbed):
    """Never a wrong model: a new keyframe, said as a warning."""
    shutil.copyfile(undisturbed / "job.json", tmp_path / "job.json")
    names = (undisturbed / "places.0").read_text().splitlines()
    place = names.index("wrote chain.json", names.index("wrote 000002.json")) + 1
    address = free_address()
    with workers(address) as three:
        with coordinator(tmp_path, tmp_path / "job.json", address, (MORTAL, place, tmp_path / "places.0")) as first:
            assert first.wait(60) == -signal.SIGKILL
        for path in (tmp_path / "storage" / "references").glob("*.bin"):
            path.write_bytes(path.read_bytes()[:-1])
        with coordinator(tmp_path, tmp_path / "job.json", address) as second:
            assert second.wait(60) == 0, errors_of(tmp_path)
            assert any("new keyframe" in warning["message"] for warning in second.of("warning"))
        three.join()
        assert {count for worker in three.workers for count in worker.trainings.values()} == {1}
    assert models_of(tmp_path)[:2] == models_of(undisturbed)[:2]
    assert len(models_of(tmp_path)) == 4
