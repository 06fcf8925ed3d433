"""Real workers with join bundles: they enrol, are refused when their certificates expire, renew, and lose nothing."""

import os
import stat
import subprocess
import sys
from contextlib import ExitStack

import pytest

from coordinating import coordinator, errors_of
from muster_cli.folder import RunFolder, make_folder
from muster_cli.job import identify, load_job, write_job
from muster_wire.trust.bundle import read_bundle
from muster_wire.trust.certificate import read_certificate
from running import muster
from running import write_job as write_manifest
from trusting import FAKES, Trust

ALONE = [f"spec.pools.{pool}.inline.clients=1" for pool in (0, 1)]


@pytest.fixture
def job(tmp_path):
    """Two pools with a client each, four rounds: the file that a coordinator reads, and the job's uid."""
    folder = RunFolder(tmp_path / "run")
    make_folder(folder)
    identified = identify(load_job([write_manifest(tmp_path, seconds=0.5)], None, ALONE), folder)
    write_job(identified, folder)
    return folder.job, identified.uid


def start_worker(stack, bundle, *arguments):
    command = [sys.executable, "-m", "muster_cli.main", "worker", *map(str, arguments)]
    environment = {**os.environ, "MUSTER_JOIN": bundle.to_line()}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    stack.callback(process.kill)
    return process


def test_certificates_that_expire_in_mid_job_are_renewed_and_no_update_is_lost(tmp_path, job):
    job_file, uid = job
    trust = Trust(tmp_path, uid)
    shift = tmp_path / "shift"
    shift.write_text("0")
    launcher = (FAKES / "clocked_coordinator.py", shift)
    security = [*trust.enrolling, "--enrol-minutes", "2"]
    with ExitStack() as stack:
        running = stack.enter_context(coordinator(tmp_path, job_file, launcher=launcher, security=security))
        state = tmp_path / "state"
        bundles = [trust.bundle(running.address, pool) for pool in ("a", "b")]
        workers = [start_worker(stack, bundles[0], "--state", state), start_worker(stack, bundles[1])]
        running.until("planned", 60, round=2)
        shift.write_text("150")  # both certificates have expired, by the coordinator's clock
        said = [worker.communicate(timeout=60)[1] for worker in workers]
        assert [worker.returncode for worker in workers] == [0, 0], said
        assert running.wait() == 0, errors_of(tmp_path)
    committed = [(event["round"], event["used"]) for event in running.of("committed") if event["round"]]
    assert committed == [(number, 2) for number in range(1, 5)]
    received = [(event["round"], event["client"]) for event in running.of("received") if event["round"]]
    assert sorted(received) == [(number, client) for number in range(1, 5) for client in ("a/0", "b/0")]
    for pool, words in zip(("a", "b"), said, strict=True):
        assert words.count(f"enrolled as muster://{uid}/{pool}") == 2, words
    kept = state / "credential.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert read_certificate(read_bundle(kept.read_text()).pair.chain).identity.uri == f"muster://{uid}/a"


def test_what_cannot_join_is_told_why(tmp_path, job):
    job_file, uid = job
    trust = Trust(tmp_path, uid)
    with coordinator(tmp_path, job_file, security=trust.enrolling) as running:
        file = tmp_path / "bundle.json"
        file.write_text(trust.bundle(running.address, "a").to_json())
        trust.denied.write_text(f"muster://{uid}/a\n")
        done = muster("worker", "--join", file, cwd=tmp_path)
        assert (done.returncode, "has been revoked" in done.stderr) == (2, True), done.stderr
    (tmp_path / "torn").write_text(file.read_text()[:-20])
    refusals = {
        ("--join", tmp_path / "torn"): "not a join bundle",
        ("--join", tmp_path / "none"): "No such file",
        ("--join", file, "--ca", trust.ca): "--join and --ca: give one of them",
        ("--coordinator", "127.0.0.1:1", "--pool", "a", "--cert", trust.cert): "--cert and --key: give both",
        ("--coordinator", "127.0.0.1:1", "--pool", "a", "--server-name", "x"): "also give --ca",
        ("--pool", "a", "--ca", trust.ca): "--coordinator: needed unless a join bundle says it",
        (
            *("--coordinator", "127.0.0.1:1", "--pool", "a", "--ca", trust.ca),
            *("--cert", trust.cert, "--key", trust.enrol_key),
        ): "not the key of the certificate in",
    }
    for arguments, words in refusals.items():
        done = muster("worker", *arguments, cwd=tmp_path, MUSTER_TOKEN="")
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr
        assert "Traceback" not in done.stderr
