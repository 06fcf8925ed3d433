"""Four MPI ranks that are one client, over a real mpirun: what comes of them, and what becomes of a dead one."""

import os
import signal
import subprocess

import numpy as np
import psutil
import pytest

from coordinating import TOKEN, commits_in, coordinator, errors_of, final_model
from siting import GIVE_UP_S, lone_workers, mpirun, need_mpi, pid_of_rank, said, sharded_job, site, worker_command


@pytest.fixture(autouse=True)
def _mpi():
    need_mpi()


def run_site(folder, job, *arguments):
    with coordinator(folder, job) as running:
        command = worker_command(running.address, "--ranks", "mpi", *arguments)
        with site(folder, command, launcher=mpirun(4)) as ranks:
            assert ranks.wait(GIVE_UP_S) == 0, said(folder)
        assert running.wait(GIVE_UP_S) == 0, errors_of(folder)
    return running


def run_apart(folder, job):
    with coordinator(folder, job) as running:
        workers = lone_workers(running.address, 4)
        texts = [worker.communicate(timeout=GIVE_UP_S)[1] for worker in workers]
        assert [worker.returncode for worker in workers] == [0] * 4, texts
        assert running.wait(GIVE_UP_S) == 0, errors_of(folder)
    return running


def test_four_ranks_train_the_model_of_four_clients_and_send_a_quarter_of_the_bytes(tmp_path):
    together, apart = tmp_path / "together", tmp_path / "apart"
    one = run_site(together, sharded_job(together, clients=1))
    four = run_apart(apart, sharded_job(apart, clients=4))
    ours, theirs = final_model(together / "storage"), final_model(apart / "storage")
    scale = np.abs(theirs.trainable).max()  # one rounding differs in each round, and training makes more of it
    assert np.abs(ours.trainable - theirs.trainable).max() <= 64 * np.finfo(np.float32).eps * scale
    assert np.allclose(ours.float_buffers, theirs.float_buffers, rtol=1e-5, atol=1e-6)
    assert np.array_equal(ours.integers, theirs.integers)
    assert not np.allclose(ours.trainable, 0)
    up, up_apart = (sum(event["bytes"] for event in each.of("received") if event["round"]) for each in (one, four))
    assert up_apart == 4 * up
    used = [[entry.examples for entry in commit.used] for commit in commits_in(together / "storage")[1:]]
    assert used == [[20 + 27 + 34 + 41]] * 3


def test_a_killed_rank_ends_the_site_with_its_name_and_a_restart_loses_no_round(tmp_path):
    marks, state = tmp_path / "marks", tmp_path / "state"
    marks.mkdir()
    job = sharded_job(tmp_path, clients=1, config={"seconds": 2.0, "marks": str(marks)}, rounds=3)
    with coordinator(tmp_path, job) as running:
        command = worker_command(running.address, "--ranks", "mpi", "--indices", 0, "--state", state)
        with site(tmp_path, command, launcher=mpirun(2)) as ranks:
            running.until("committed", GIVE_UP_S, round=1)
            running.until("planned", round=2)
            process = psutil.Process(pid_of_rank(marks, 1))
            process.kill()
            assert process.wait(10) is not None or not process.is_running()
            assert ranks.wait(GIVE_UP_S) not in {0, 2}
        words = said(tmp_path)
        assert f"rank 1 (process {process.pid} on " in words
        assert "is gone" in words
        with site(tmp_path, command, launcher=mpirun(2)) as ranks:
            assert ranks.wait(GIVE_UP_S) == 0, said(tmp_path)
        assert running.wait(GIVE_UP_S) == 0, errors_of(tmp_path)
    assert [commit.round for commit in commits_in(tmp_path / "storage")] == [0, 1, 2, 3]
    assert [event["used"] for event in running.of("committed")] == [1] * 4
    assert not running.of("rejected")


def test_a_warned_site_says_goodbye_and_comes_back(tmp_path):
    marks, state = tmp_path / "marks", tmp_path / "state"
    marks.mkdir()
    job = sharded_job(tmp_path, clients=1, config={"seconds": 2.0, "marks": str(marks), "private": True}, rounds=3)
    with coordinator(tmp_path, job) as running:
        command = worker_command(running.address, "--ranks", "mpi", "--indices", 0, "--state", state)
        with site(tmp_path, command, launcher=mpirun(2)) as ranks:
            running.until("committed", GIVE_UP_S, round=1)
            running.until("planned", round=2)
            ranks.send_signal(signal.SIGUSR1)  # mpirun hands it on
            assert ranks.wait(GIVE_UP_S) == 143, said(tmp_path)
        assert "stopped by SIGUSR1" in said(tmp_path)
        with site(tmp_path, command, launcher=mpirun(2)) as ranks:
            assert ranks.wait(GIVE_UP_S) == 0, said(tmp_path)
        assert running.wait(GIVE_UP_S) == 0, errors_of(tmp_path)
    assert [commit.round for commit in commits_in(tmp_path / "storage")] == [0, 1, 2, 3]
    assert "of another number of ranks" not in said(tmp_path)


def test_processes_that_mpi_does_not_join_say_so():
    command = worker_command("127.0.0.1:1", "--ranks", "mpi")
    environment = {**os.environ, "MUSTER_TOKEN": TOKEN, "SLURM_NTASKS": "4"}
    alone = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=GIVE_UP_S)
    assert (alone.returncode, "4 processes were started, and MPI sees one" in alone.stderr) == (2, True), alone.stderr
