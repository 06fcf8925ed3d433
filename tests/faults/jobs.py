"""Jobs on real nodes that are to be broken: what they are made of, and how a test sees that they ended well.

Well means: the job completes, its history names each round once, and its model is the result of so many rounds and no
more (every round moves every number of it by one, cluster/small_task.py), with what was trained on the way.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from real_nodes import Object, Team, wait_until

ROUNDS = 12
TASK = Path(__file__).parents[1] / "cluster" / "small_task.py"
RESOURCES = {"requests": {"cpu": "50m", "memory": "300Mi"}, "limits": {"cpu": "1", "memory": "1300Mi"}}
HOSTNAME = "kubernetes.io/hostname"
Report = Callable[[str, float, str], None]


def pool(name: str, *, node: str = "n1", clients: int = 2, trusted: bool = True, **template: Any) -> Object:
    """A pool of one worker, which acts for all its clients."""
    return {
        "name": name,
        "inline": {
            "type": "Kubernetes",
            "clients": clients,
            "workers": {"min": 1, "max": 1, "clientsPerWorker": clients},
            "trusted": trusted,
            "template": {"resources": RESOURCES, "nodeSelector": {HOSTNAME: node}} | template,
        },
    }


def with_clock(given: Object, libfaketime: str, offset: str) -> Object:
    """The pool with a clock that is off, by the library that lies in a ConfigMap under this name. Only what says what
    time it is; what measures how long something takes goes on as it was, as on a machine whose clock was set wrong.
    """
    environment = {"LD_PRELOAD": "/data/libfaketime.so.1", "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    variables = [{"name": name, "value": value} for name, value in environment.items()]
    inline = given["inline"]
    return given | {
        "inline": inline
        | {
            "template": inline["template"] | {"environment": variables},
            "data": {"volume": {"type": "ConfigMap", "configMap": {"name": libfaketime}}},
        }
    }


def manifest(
    name: str,
    pools: list[Object],
    *,
    rounds: Object | None = None,
    config: Object | None = None,
    coordinator: Object | None = None,
    storage: Object | None = None,
) -> Object:
    """A job of a dozen short rounds."""
    checkpoint = {"whenDeleted": "Delete"} | ({"storage": storage} if storage else {})
    closing = {"total": ROUNDS, "minUpdates": 2, "deadlineSeconds": 15, "maxFailedRounds": 100} | (rounds or {})
    placed = {"nodeSelector": coordinator or {HOSTNAME: "n1"}}
    return {
        "apiVersion": "muster.dev/v1alpha1",
        "kind": "FederatedJob",
        "metadata": {"name": name},
        "spec": {
            "task": {
                "source": {"type": "ConfigMap", "configMap": {"name": "stepping"}},
                "entrypoint": "small_task:Stepping",
                "config": {"seconds": 0.7} | (config or {}),
            },
            "pools": pools,
            "rounds": {name: value for name, value in closing.items() if value is not None},
            "local": {"epochs": 1, "batchSize": 16, "learningRate": 0.1},
            "compression": {"preset": "none"},
            "coordinator": placed | {"resources": {"requests": {"cpu": "50m", "memory": "200Mi"}}},
            "checkpoint": checkpoint,
        },
    }


@dataclass
class Job:
    """A job that runs, and the moment at which it was broken."""

    team: Team
    name: str
    rounds: int
    broken_at: float = field(default_factory=time.monotonic)
    ended: str = "never looked at"

    def pod(self, component: str, pool: str = "") -> Object:
        """One that runs."""
        running = self.team.pods(self.name, component)
        found = [one for one in running if not pool or one["metadata"]["labels"]["muster.dev/pool"] == pool]
        assert found, f"no {component} of {self.name} runs"
        return found[0]

    def log(self, pod: Object) -> list[Object]:
        """The lines of a pod's log, which are JSON, each with the moment at which the node took it down."""
        lines = self.team.tell("logs", "--timestamps", pod["metadata"]["name"]).splitlines()
        pairs = (line.partition(" ") for line in lines)
        return [json.loads(text) | {"taken": when} for when, _, text in pairs if text.startswith("{")]

    def breaks(self) -> None:
        """From now on time counts."""
        self.broken_at = time.monotonic()

    def has_history(self) -> list[Object]:
        """Each round once, in order, to the last: none lost, none repeated. The newest twenty are shown."""
        history: list[Object] = self.team.training(self.name)["history"]
        numbers = [one["round"] for one in history]
        assert numbers == list(range(self.rounds - len(numbers) + 1, self.rounds + 1))
        return history

    def ends_well(self) -> list[Object]:
        """Complete, with each round once, and the model is what so many rounds make of it. Its history."""
        self.team.wait(self.name, within_s=300)
        self.ended = "complete"
        history = self.has_history()
        model = load_file(self.storage() / "final.safetensors")
        np.testing.assert_array_equal(model["steps"], np.full(1000, self.rounds, np.float32))
        np.testing.assert_allclose(model["line"], [1.0, -2.0], atol=0.1)  # what PyTorch learned meanwhile
        return history

    def storage(self) -> Path:
        """The job's folder on the volume of its checkpoint."""
        job = self.team.get("fedjob", self.name)
        claim = job["status"]["coordinator"]["checkpointLocation"].removeprefix("pvc/")
        volume = self.team.get("pvc", claim)["spec"]["volumeName"]
        place = self.team.get("pv", volume)["spec"]["local"]["path"]
        return self.team.nodes.inside("n1", place) / job["metadata"]["uid"]


@dataclass(frozen=True)
class Lab:
    """Where jobs are broken, and who writes down what became of them."""

    team: Team
    report: Report

    @contextmanager
    def job(self, what: str, given: Object, *, until: int = 2) -> Iterator[Job]:
        """A job that has committed so many rounds; removed afterwards. `what` is done to it, in words."""
        name = given["metadata"]["name"]
        self.team.tell("apply", "-f", "-", manifest=json.dumps(given))
        job = Job(self.team, name, given["spec"]["rounds"]["total"])
        try:
            self.team.wait_for_round(name, until)
            yield job
            assert job.ended == "complete"
        except BaseException as error:
            job.ended = f"FAILED: {str(error).splitlines()[0] if str(error) else type(error).__name__}"[:70]
            raise
        finally:
            self.report(what, time.monotonic() - job.broken_at, job.ended)
            self.team.tell("delete", "fedjob", name, "--wait=false")


def exit_code(team: Team, pod: str) -> int | None:
    """Of a pod's container, which may have been removed since."""
    found = team.nodes.cluster.kubectl("-n", team.namespace, "get", "pod", pod, "-o", "json")
    if found.returncode:
        return 137
    [status] = json.loads(found.stdout)["status"]["containerStatuses"]
    ended: Object = status["state"].get("terminated") or {}
    return ended.get("exitCode")


def wait_for_another(job: Job, before: Object) -> Object:
    """Until another coordinator runs than that pod."""

    def others() -> list[Object]:
        found = job.team.pods(job.name, "coordinator")
        return [one for one in found if one["metadata"]["name"] != before["metadata"]["name"]]

    wait_until(lambda: bool(others()), "another coordinator runs", within_s=120)
    return others()[0]


class Reports:
    """Rows of the table that pytest prints at its end. Jobs are broken in several threads."""

    def __init__(self, rows: list[tuple[str, float, str]]) -> None:
        self._rows = rows
        self._lock = threading.Lock()

    def __call__(self, fault: str, seconds: float, result: str) -> None:
        with self._lock:
            self._rows.append((fault, seconds, result))
