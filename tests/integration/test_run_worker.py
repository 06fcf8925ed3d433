"""`muster worker`: the other way to take part, by hand, with a coordinator that runs elsewhere."""

import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack

from muster_cli.folder import RunFolder, make_folder
from muster_cli.job import identify, load_job, write_job
from running import muster
from running import write_job as write_manifest

TOKEN = "a-token-that-is-long-enough"  # noqa: S105


def start_coordinator(tmp_path, stack):
    """A coordinator of two pools with one client each, and its address."""
    folder = RunFolder(tmp_path / "run")
    make_folder(folder)
    alone = [f"spec.pools.{pool}.inline.clients=1" for pool in (0, 1)]
    write_job(identify(load_job([write_manifest(tmp_path)], None, alone), folder), folder)
    (tmp_path / "token").write_text(TOKEN)
    command = ["--job", folder.job, "--storage", folder.checkpoint, "--listen", "127.0.0.1:0"]
    process = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-m", "muster_coordinator", *command, "--token-file", tmp_path / "token"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    )
    stack.callback(process.kill)
    return process, json.loads(process.stdout.readline())["address"]


def worker(address, *arguments):
    command = [sys.executable, "-m", "muster_cli.main", "worker", "--coordinator", address, *arguments]
    environment = {**os.environ, "MUSTER_TOKEN": TOKEN}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def test_workers_by_hand_finish_a_job(tmp_path):
    with ExitStack() as stack:
        coordinator, address = start_coordinator(tmp_path, stack)
        refused = muster("worker", "--coordinator", address, "--pool", "c", cwd=tmp_path, MUSTER_TOKEN=TOKEN)
        workers = [worker(address, "--pool", "a", "--indices", "0"), worker(address, "--pool", "b", "--capacity", "1")]
        said = [each.communicate(timeout=60)[1] for each in workers]
        assert [each.returncode for each in workers] == [0, 0], said
        assert coordinator.wait(10) == 0
    assert "acting for a/0" in said[0]
    assert "acting for b/0" in said[1]
    assert refused.returncode == 2
    assert re.search("no pool 'c'; it has a, b", refused.stderr), refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_wrong_token_is_told_so(tmp_path):
    with ExitStack() as stack:
        _, address = start_coordinator(tmp_path, stack)
        done = muster("worker", "--coordinator", address, "--pool", "a", cwd=tmp_path, MUSTER_TOKEN=TOKEN[::-1])
    assert done.returncode == 2
    assert "token" in done.stderr
    assert "Traceback" not in done.stderr
