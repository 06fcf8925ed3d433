"""A SLURM pool behind a login node: the bridge's pod reaches it by ssh, and its jobs the coordinator through the same.

All of it is real: the pod's ssh client, an sshd on this machine, SLURM's commands and jobs. The job has no address that
is for the outside.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from real_nodes import Nodes, Object, Team, team, wait_until
from slurming import Slurm
from sshing import LoginNode

pytestmark = pytest.mark.timeout(600, func_only=True)
ROUNDS = 12


@pytest.fixture
def lab(release: Nodes) -> Iterator[Team]:
    with team(release, "login") as found:
        yield found


@pytest.fixture
def login(lab: Team, slurm: Slurm, tmp_path: Path) -> Iterator[LoginNode]:
    node = LoginNode(tmp_path / "login", {"SLURM_CONF": slurm.environment["SLURM_CONF"]}, lab.nodes.host)
    node.start()
    yield node
    node.stop()


def job(login: LoginNode, site: Path) -> str:
    return textwrap.dedent(f"""
        apiVersion: muster.dev/v1alpha1
        kind: FederatedJob
        metadata: {{name: behind}}
        spec:
          task: {{entrypoint: "muster.tasks.digits:Digits"}}
          rounds: {{total: {ROUNDS}, minUpdates: 2, deadlineSeconds: 120}}
          local: {{epochs: 15, batchSize: 16, learningRate: 0.02}}
          pools:
          - name: hpc
            inline:
              type: Slurm
              clients: 2
              workers: {{clientsPerWorker: 1}}
              state: {{type: Path, path: {{path: {site}/state}}}}
              slurm:
                command:
                  type: Ssh
                  ssh:
                    host: {login.host}
                    port: {login.port}
                    user: root
                    keySecret: {{name: login, key: id}}
                    knownHostsSecret: {{name: login, key: hosts}}
                relay: {{type: Ssh}}
                partition: low
                timeLimit: 20m
                workDir: {site}
                preamble: export PATH={Path(sys.executable).parent}:$PATH
    """)


def started(lab: Team, login: LoginNode, site: Path) -> None:
    """The job, two rounds on."""
    (site / "hosts").write_text(login.known_hosts)
    lab.tell("create", "secret", "generic", "login", f"--from-file=id={login.key}", f"--from-file={site / 'hosts'}")
    lab.tell("apply", "-f", "-", manifest=job(login, site))
    lab.wait_for_round("behind", 2, within_s=240)


def bridges(lab: Team) -> list[Object]:
    """Those that run."""
    return [pod for pod in lab.pods("behind", "worker") if "bridge" in pod["metadata"]["name"]]


def ended_well(lab: Team, slurm: Slurm, login: LoginNode) -> None:
    """All of it is trained, and nothing is left anywhere."""
    lab.wait("behind")
    assert lab.training("behind")["round"] == ROUNDS
    assert {one["used"] for one in lab.training("behind")["history"]} == {2}
    wait_until(lambda: not slurm.queue(), "SLURM has nothing of it")
    wait_until(lambda: not login.forwarders(), "nothing stays behind on the login node")


def wait_for_others(slurm: Slurm, before: set[str]) -> None:
    """Until both workers run in jobs that aren't these."""
    wait_until(lambda: len(jobs_of(slurm) - before) == 2, "both workers were submitted anew", within_s=180)
    assert not jobs_of(slurm) & before


def jobs_of(slurm: Slurm) -> set[str]:
    """The ids of those that run."""
    return {task[0] for task in slurm.jobs("running")}


def test_a_job_that_is_deleted_takes_what_slurm_has_with_it_though_its_bridge_was_killed(
    lab: Team, slurm: Slurm, login: LoginNode, tmp_path: Path
) -> None:
    started(lab, login, tmp_path)
    assert len(slurm.jobs("running")) == 2
    [bridge] = bridges(lab)
    lab.nodes.kill_pod(bridge)
    lab.tell("delete", "fedjob/behind", "--timeout=200s")
    assert not slurm.queue()  # when the command is back, there is nothing left, and nothing to wait for
    wait_until(lambda: not login.forwarders(), "nothing stays behind on the login node")


def test_a_killed_bridge_is_followed_by_one_that_goes_on_with_its_jobs(
    lab: Team, slurm: Slurm, login: LoginNode, tmp_path: Path
) -> None:
    started(lab, login, tmp_path)
    before = {(task[0], task[3]) for task in slurm.jobs("running")}
    assert len(before) == 2

    [bridge] = bridges(lab)
    lab.nodes.kill_pod(bridge)
    reached = lab.training("behind")["round"]
    assert reached < ROUNDS - 4
    lab.wait_for_round("behind", reached + 3, within_s=180)
    [after] = bridges(lab)
    assert after["metadata"]["uid"] != bridge["metadata"]["uid"]
    assert {(task[0], task[3]) for task in slurm.jobs("running")} == before  # nothing was submitted or started again
    ended_well(lab, slurm, login)


def test_an_evicted_bridge_takes_its_jobs_along_and_the_next_one_submits_anew(
    lab: Team, slurm: Slurm, login: LoginNode, tmp_path: Path
) -> None:
    started(lab, login, tmp_path)
    before = jobs_of(slurm)
    [bridge] = bridges(lab)
    lab.evict(bridge)
    wait_until(lambda: not before & jobs_of(slurm), "what it had in SLURM is cancelled")
    assert lab.training("behind")["round"] < ROUNDS
    wait_for_others(slurm, before)
    [after] = bridges(lab)
    assert after["metadata"]["uid"] != bridge["metadata"]["uid"]
    ended_well(lab, slurm, login)


def test_a_suspended_job_has_nothing_in_slurm_and_goes_on_when_it_is_resumed(
    lab: Team, slurm: Slurm, login: LoginNode, tmp_path: Path
) -> None:
    started(lab, login, tmp_path)
    before = jobs_of(slurm)
    suspend(lab, True)
    lab.wait("behind", "Suspended")
    wait_until(lambda: not slurm.queue(), "SLURM has nothing of it")
    wait_until(lambda: not bridges(lab), "the bridge is gone")
    kept = lab.training("behind")["round"]
    assert 2 <= kept < ROUNDS

    suspend(lab, False)
    wait_for_others(slurm, before)
    ended_well(lab, slurm, login)


def suspend(lab: Team, wish: bool) -> None:
    lab.tell("patch", "fedjob/behind", "--type=merge", "-p", json.dumps({"spec": {"suspend": wish}}))
