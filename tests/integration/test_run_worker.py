"""`muster worker`: the other way to take part, by hand, with a coordinator that runs elsewhere."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack

from prometheus_client.parser import text_string_to_metric_families

from muster_cli.folder import RunFolder, make_folder
from muster_cli.job import identify, load_job, write_job
from running import muster
from running import write_job as write_manifest
from watching import free_port

TOKEN = "a-token-that-is-long-enough"  # noqa: S105


def start_coordinator(tmp_path, stack, **config):
    """A coordinator of two pools with one client each, and its address."""
    folder = RunFolder(tmp_path / "run")
    make_folder(folder)
    alone = [f"spec.pools.{pool}.inline.clients=1" for pool in (0, 1)]
    write_job(identify(load_job([write_manifest(tmp_path, **config)], None, alone), folder), folder)
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


def scrape(address):
    """Each sample's name and labels → its value; nothing while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(each.name, *each.labels.values()): each.value for each in samples}


def test_a_worker_says_what_it_does_and_how_long_that_takes(tmp_path):
    address, seen = f"127.0.0.1:{free_port()}", {}
    with ExitStack() as stack:
        _, dial = start_coordinator(tmp_path, stack, seconds=0.5)
        arguments = (("--pool", "a", "--indices", "0", "--metrics", address), ("--pool", "b", "--indices", "0"))
        workers = [stack.enter_context(worker(dial, *each)) for each in arguments]
        for each in workers:
            stack.callback(each.kill)
        deadline = time.monotonic() + 120
        while ("muster_worker_work_seconds_count", "small", "a", "done", "train") not in seen:
            assert time.monotonic() < deadline, seen
            seen = scrape(address) or seen
            time.sleep(0.1)
        said = [each.communicate(timeout=60)[1] for each in workers]
        assert [each.returncode for each in workers] == [0, 0], said
    assert seen["muster_worker_work_seconds_sum", "small", "a", "done", "train"] >= 0.5
    assert seen["muster_worker_work_seconds_count", "small", "a", "done", "fetch"] >= 1
    assert any(key[0] == "muster_build_info" and "worker" in key for key in seen)
    assert scrape(address) == {}, "nothing is left that listens"


def test_an_address_that_is_none_is_refused_before_anything_starts(tmp_path):
    given = ("worker", "--coordinator", "127.0.0.1:1", "--pool", "a", "--metrics", "9464")
    done = muster(*given, cwd=tmp_path, MUSTER_TOKEN="t")  # noqa: S106
    assert done.returncode == 2
    assert "--metrics 9464: write HOST:PORT" in done.stderr
