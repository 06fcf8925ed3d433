"""Two ranks under torch.distributed that are one client: they take the steps of one process, over gloo."""

import os
import subprocess
from contextlib import ExitStack

import numpy as np
import psutil
import pytest

from coordinating import TOKEN, commits_in, coordinator, errors_of, final_model, write_job
from running import TASKS
from siting import GIVE_UP_S, PLAIN, end_tree, lone_workers, pid_of_rank, said, worker_command
from watching import free_port


def job(folder, rounds=2, **config):
    """One client, whose 47 examples make batches that two ranks can't share alike."""
    folder.mkdir(exist_ok=True)
    task = {
        "entrypoint": "stepping:Stepping",
        "source": {"type": "Path", "path": {"path": str(TASKS)}},
        "config": config,
    }
    return write_job(
        folder,
        clients=1,
        task=task,
        rounds={"total": rounds, "deadlineSeconds": 120},
        local={"epochs": 2, "batchSize": 9, "learningRate": 0.1, "gradientClipNorm": 0.5},
        strategy={"type": "FedProx", "fedProx": {"mu": 0.1}, "weighting": {"type": "Variance"}},
    )


def start_ranks(stack, folder, address, *arguments, count=2):
    """As srun would, or torchrun."""
    port = free_port()
    processes = []
    for rank in range(count):
        environment = {
            **os.environ,
            **PLAIN,
            "MUSTER_TOKEN": TOKEN,
            "SLURM_PROCID": str(rank),
            "SLURM_NTASKS": str(count),
            "SLURM_LOCALID": str(rank),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        command = worker_command(address, "--ranks", "distributed", *arguments)
        with (folder / "site.log").open("ab") as log:
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        stack.callback(end_tree, processes[-1])
    return processes


def test_two_ranks_take_the_steps_of_one_process(tmp_path):
    together, alone = tmp_path / "together", tmp_path / "alone"
    with ExitStack() as stack:
        running = stack.enter_context(coordinator(together, job(together)))
        ranks = start_ranks(stack, together, running.address)
        assert [rank.wait(GIVE_UP_S) for rank in ranks] == [0, 0], said(together)
        assert running.wait(GIVE_UP_S) == 0, errors_of(together)
    with coordinator(alone, job(alone)) as one:
        [worker] = lone_workers(one.address, 1)
        text = worker.communicate(timeout=GIVE_UP_S)[1]
        assert (worker.returncode, one.wait(GIVE_UP_S)) == (0, 0), text
    ours, theirs = final_model(together / "storage"), final_model(alone / "storage")
    assert (
        np.abs(ours.trainable - theirs.trainable).max()
        <= 16 * np.finfo(np.float32).eps * np.abs(theirs.trainable).max()
    )
    used, used_alone = (
        [entry for commit in commits_in(folder / "storage")[1:] for entry in commit.used]
        for folder in (together, alone)
    )
    assert [entry.examples for entry in used] == [47, 47]
    assert [entry.steps for entry in used] == [entry.steps for entry in used_alone] == [12, 12]
    for mine, other in zip(used, used_alone, strict=True):
        assert mine.metrics.keys() == other.metrics.keys() >= {"loss", "gradientVariance"}
        assert mine.metrics == pytest.approx(other.metrics, rel=1e-5)


def test_a_loop_that_goes_its_own_way_on_each_rank_is_found_out_and_a_killed_rank_too(tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    with ExitStack() as stack:
        running = stack.enter_context(coordinator(tmp_path, job(tmp_path, stray=True, marks=str(marks))))
        ranks = start_ranks(stack, tmp_path, running.address)
        failed = running.until("rejected", GIVE_UP_S)
        assert "train left other values on rank 1 than on rank 0" in failed["reason"], failed
        process = psutil.Process(pid_of_rank(marks, 1))
        process.kill()
        assert ranks[1].wait(GIVE_UP_S) == -9
        assert ranks[0].wait(GIVE_UP_S) == 1, said(tmp_path)
    assert f"rank 1 (process {process.pid} on " in said(tmp_path)
