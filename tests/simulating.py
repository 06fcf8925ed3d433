"""Small simulations for tests: a job on a task of a few numbers, machines made on the spot, what came of it."""

import io
import json
from dataclasses import dataclass

import msgspec

from muster_cli.job import load_job
from muster_cli.simulation.profile import Machine, Profile
from muster_cli.simulation.scene import simulate
from running import TASKS

POOLS = [{"name": "p", "inline": {"type": "Kubernetes", "clients": 4, "trusted": True}}]


def job_of(folder, **spec):
    """A job of four clients and six rounds, on a task of 1,000 numbers that trains in no time; with changes."""
    whole = {
        "task": {
            "entrypoint": "drifting:Drifting",
            "config": {"values": 1000},
            "source": {"type": "Path", "path": {"path": str(TASKS)}},
        },
        "pools": POOLS,
        "rounds": {"total": 6, "deadlineSeconds": 1000},
        "local": {"epochs": 1, "batchSize": 1, "learningRate": 0.1},
        "evaluation": {"every": 1, "central": {"type": "Never"}, "federated": True},
    } | spec
    path = folder / "simulated.yaml"
    document = {"apiVersion": "muster.dev/v1alpha1", "kind": "FederatedJob", "metadata": {"name": "s"}, "spec": whole}
    path.write_text(json.dumps(document))
    return load_job([path], None, [])


def machines(*speeds, **all_of_them):
    """One client of each speed; a step takes a second at speed 1, and lines are as fast as can be."""
    usual = {"down_mbit": 1e9, "up_mbit": 1e9, "round_trip_ms": 0.0} | all_of_them
    made = tuple(Machine(tier=f"t{speed:g}", speed=speed, **usual) for speed in speeds)
    return Profile(name="test", seconds_per_step=1.0, machines=made)


@dataclass(frozen=True)
class Ran:
    """A simulation that is over."""

    lines: list
    summary: dict
    history: object
    raw: bytes

    def of(self, kind):
        return [line for line in self.lines if line["event"] == kind]

    @property
    def rounds(self):
        return [line for line in self.of("committed") if line["round"]]

    @property
    def seconds(self):
        return [line["seconds"] for line in self.rounds]


def run(job, profile, *, surrogate=True):
    out = io.BytesIO()
    made = simulate(job, profile, None, out, surrogate=surrogate)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    return Ran(lines, msgspec.json.decode(msgspec.json.encode(made.summary)), made.history, out.getvalue())
