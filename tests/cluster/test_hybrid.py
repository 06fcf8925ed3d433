"""One job over pods and SLURM's jobs, both real: examples/hybrid, as its page says, with this machine's values.

The bridge's pod speaks to slurmrestd as it would to a site's, and what SLURM starts dials the coordinator from outside
the pods' network, through the one port that its Service has on each node.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from safetensors.numpy import load_file

from charting import ROOT
from documented import blocks
from proxying import Proxy
from real_nodes import Nodes, Shell, Team, laptops_accuracy, team, wait_until
from slurming import Slurm

EXAMPLE = ROOT / "examples" / "hybrid" / "job.yaml"
[COMMANDS] = [one for one in blocks() if one.page == "examples/hybrid/README.md" and one.is_run_on_nodes]
ROUNDS, UPDATES = 50, 6
NOISE = 0.03  # as in test_real_pods.py; and whose updates come first is another in each run
PORT = 30443

pytestmark = pytest.mark.timeout(600, func_only=True)


@pytest.fixture
def lab(release: Nodes) -> Iterator[Team]:
    with team(release, "hybrid") as found:
        yield found


def for_this_machine(text: str, slurmrestd: str, node: str, site: Path) -> str:
    """The example with the values that are marked in it, as a user would fill them in."""
    pods, hpc, job = yaml.safe_load_all(text)
    marked = [line for line in text.splitlines() if "# yours" in line]
    hpc["spec"]["state"]["path"]["path"] = str(site / "state")
    hpc["spec"]["slurm"] |= {
        "url": f"http://{slurmrestd}",
        "auth": {"user": "root", "tokenSecret": {"name": "slurm", "key": "token"}},
        "partition": "low",
        "workDir": str(site),
        "preamble": f"export PATH={Path(sys.executable).parent}:$PATH",
    }
    job["spec"]["coordinator"]["service"]["address"] = f"{node}:{PORT}"
    assert len(marked) == 7, "the example marks what is filled in here, and nothing else"
    return yaml.safe_dump_all([pods, hpc, job])


def address_of(nodes: Nodes, node: str) -> str:
    return nodes.cluster.tell("get", "node", node, "-o", "jsonpath={.status.addresses[0].address}")


def log_of(site: Path, task: str) -> str:
    """What a task of the array has logged since it was last started."""
    [path] = site.glob(f"muster-*_{task}.log")
    return path.read_text().rpartition("acting for")[2]


def warned(lab: Team) -> list[str]:
    """What the clients of SLURM's jobs logged as these were preempted, in the log of the bridge's pod."""
    [bridge] = [pod for pod in lab.pods("hybrid", "worker") if "bridge" in pod["metadata"]["name"]]
    lines = lab.tell("logs", bridge["metadata"]["name"]).splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]  # what is said on standard error isn't JSON
    logged = [event["message"].removeprefix("pool hpc: ") for event in events if event.get("what") == "log"]
    return [line for line in logged if "leaving: stopped by SIGTERM" in line]


def test_pods_and_slurm_train_one_model_though_two_jobs_are_preempted(lab: Team, slurm: Slurm, tmp_path: Path) -> None:
    shell = Shell.of(lab, tmp_path, SLURM_CONF=slurm.environment["SLURM_CONF"])
    create, apply, wait, fetch = COMMANDS.lines()
    with Proxy(slurm.url.removeprefix("http://"), host=lab.nodes.host) as slurmrestd:
        filled = for_this_machine(EXAMPLE.read_text(), slurmrestd.address, address_of(lab.nodes, "n1"), tmp_path)
        (tmp_path / "hybrid.yaml").write_text(filled)
        shell.run(create)
        shell.run(apply)
        lab.wait_for_round("hybrid", 3, within_s=240)

        slurm.until(lambda: len(slurm.jobs("running")) == 4)
        [node, *_] = [node for node, tasks in Counter(job[4] for job in slurm.jobs("running")).items() if tasks == 2]
        slurm.preempt(2, node)
        slurm.until_started(lambda: len(slurm.jobs("running")) == 4)
        again = {job[1] for job in slurm.jobs("running") if job[3] == "1"}
        assert len(again) == 2
        wait_until(lambda: all("was used" in log_of(tmp_path, task) for task in again), "both count again")
        assert lab.training("hybrid")["round"] < ROUNDS
        wait_until(lambda: len(warned(lab)) >= 2, "the bridge hands on what its workers logged")
        assert all(line.startswith("hpc/") for line in warned(lab))

        shell.run(wait)
        training = lab.training("hybrid")
        history = training["history"]
        assert [one["round"] for one in history] == list(range(ROUNDS - len(history) + 1, ROUNDS + 1))
        assert {one["used"] for one in history} == {UPDATES}
        shell.run(fetch)
        assert sum(tensor.size for tensor in load_file(tmp_path / "hybrid.safetensors").values()) > 1000
        wait_until(lambda: not slurm.queue(), "SLURM has nothing of it")
    (tmp_path / "laptop").mkdir()
    laptop = laptops_accuracy(EXAMPLE, tmp_path / "laptop")
    assert float(training["metrics"]["accuracy"]) == pytest.approx(laptop, abs=NOISE)
