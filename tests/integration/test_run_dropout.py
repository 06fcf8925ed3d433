"""Clients that train parts of the model, over real gRPC with real processes: fewer bytes as computed, and it learns."""

import json

import yaml
from safetensors.numpy import load_file

from coordinating import commits_in
from muster_coordinator.models import read_model
from muster_coordinator.parts import dropout_of
from muster_spec.strategy_types import FederatedDropout
from muster_wire.codecs import Pipeline
from muster_wire.payload import PayloadKind, Shape
from muster_wire.submodel import part_of
from running import muster

CLIENTS = 3
ROUNDS = 6
SEED = 5
ROOM = 4096  # for what goes with an update: offers, layouts, frames


def run(folder, compression, task="muster.tasks.digits:Digits", **spec):
    """A job run to its end: its folder, its exit code, its events and the workers' logs."""
    document = {
        "apiVersion": "muster.dev/v1alpha1",
        "kind": "FederatedJob",
        "metadata": {"name": "parts"},
        "spec": {
            "task": {"entrypoint": task, "config": {"width": 8} if "digits" in task else {}},
            "pools": [{"name": "p", "inline": {"type": "Kubernetes", "clients": CLIENTS}}],
            "rounds": {"total": ROUNDS, "deadlineSeconds": 120},
            "local": {"epochs": 2, "batchSize": 16, "learningRate": 0.05},
            "evaluation": {"every": ROUNDS},
            "compression": compression,
            "seed": SEED,
            **spec,
        },
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(document))
    done = muster("run", "job.yaml", "--json", "--out", "run", "--no-baselines", cwd=folder)
    logs = "".join(log.read_text() for log in sorted((folder / "run" / "logs").iterdir()))
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], logs


def layout_of(folder):
    return read_model(next((folder / "run").rglob("final.safetensors"))).values.layout


def size_of(layout):
    return Shape(layout, PayloadKind.UPDATE, Pipeline()).sizes.most


def test_bytes_shrink_as_computed_and_the_model_learns(tmp_path):
    code, events, logs = run(tmp_path, {"preset": "none", "federatedDropout": {"keep": 0.5, "masks": 2}})
    assert code == 0, logs
    layout = layout_of(tmp_path)
    assert [group.units for group in layout.groups] == [8, 16]
    dropout = dropout_of(FederatedDropout(0.5, 2), SEED, CLIENTS)
    commits = commits_in(next((tmp_path / "run").rglob("rounds")).parent)[1:]
    assert [len(commit.used) for commit in commits] == [CLIENTS] * ROUNDS
    for commit in commits:
        parts = [part_of(layout, dropout.draw(commit.round, place)).layout for place in range(CLIENTS)]
        expected = sum(map(size_of, parts))
        assert expected <= commit.bytes_up <= expected + CLIENTS * ROOM
        assert expected <= commit.bytes_down <= expected + CLIENTS * ROOM or commit.round == 1
        assert expected < 0.5 * CLIENTS * size_of(layout)
    assert events[-1]["accuracy"] > 0.8


def test_what_a_part_left_over_waits_in_the_places_of_the_whole(tmp_path):
    """Top-k and error feedback over parts that change every round: what is left to send is of the whole model."""
    top = {"type": "TopK", "topK": {"share": 0.2, "warmUpRounds": 1}}
    compression = {"up": {"codecs": [top, {"type": "Int8"}]}, "federatedDropout": {"keep": 0.75, "masks": 4}}
    code, events, logs = run(tmp_path, compression)
    assert code == 0, logs
    assert events[-1]["accuracy"] > 0.5
    memories = list((tmp_path / "run").rglob("memory.safetensors"))
    assert len(memories) == CLIENTS
    for memory in map(load_file, memories):
        assert memory["residual"].shape == (layout_of(tmp_path).trainable_size,)
        assert memory["participations"][0] == ROUNDS


def test_a_model_of_which_nothing_can_be_left_out_ends_the_job_with_the_remedy(tmp_path):
    rounds = {"total": 1, "deadlineSeconds": 60, "maxFailedRounds": 1}
    code, events, _ = run(
        tmp_path, {"preset": "none", "federatedDropout": {}}, "muster.tasks.heart:Heart", rounds=rounds
    )
    assert code != 0
    assert "Task.droppable" in events[-1]["message"]
