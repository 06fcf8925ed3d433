"""What a coordinator's memory does when clients grow: peak RssAnon of a real process with a 25 MB model.

Clients are rehearsal workers in this process, all sending at once; the coordinator is a process of its own, sampled
every few milliseconds from /proc. Must hold: the same within 10 % with four times the clients (the median of the
rounds' peaks), and at most idle + 4 models for the mean and for FedAdam, which keeps most, idle + 5 for SCAFFOLD with
its two sums, idle + 6 for the rules that see all updates (median and Krum), idle + 7 for FedMA, whose model is one
layer that grows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml

from muster_coordinator.rehearsal import Drift, Held, RehearsalWorker, Trained
from muster_spec import load, resolve
from muster_wire.codecs import CodecId
from muster_wire.groups import Group, Member
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.matching import chain_of, layer_layout
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.values import Values

CLASSES_OF_LAYERED = 10
TOKEN = "a-token-for-a-benchmark"  # noqa: S105
SAMPLE_S = 0.005


class Ballast(Drift):
    """Trains nothing: one update for everybody, so that the clients' own memory stays small."""

    def __init__(self, weights: int) -> None:
        super().__init__(weights)
        self.update = Values.zeros(self.layout, frozen=False)
        self.update.trainable[...] = np.float32(0.01)

    def train(self, base: Values, seed: int) -> Trained:  # noqa: ARG002 - what a learner is given
        return Trained(self.update, examples=1 + seed % 7)


class Sender(RehearsalWorker):
    """Encodes the one update once for all workers."""

    encoded: Held | None = None

    def encode(self, trained: Trained, codec: CodecId) -> Held:
        if trained.examples == 0:
            return super().encode(trained, codec)
        if Sender.encoded is None:
            Sender.encoded = super().encode(trained, codec)
        return Sender.encoded


class Layered(Ballast):
    """The same with a model that is hardly more than one layer, whose units are like no others."""

    def __init__(self, weights: int) -> None:
        self.units, inputs = 250, weights // 250
        groups = (Group(self.units, (Member("a.weight", 0), Member("b.weight", 1))),)
        shapes = {"a.weight": (self.units, inputs), "b.weight": (CLASSES_OF_LAYERED, self.units)}
        tensors = tuple(TensorSpec(name, shape, "float32", Kind.TRAINABLE) for name, shape in shapes.items())
        self.layout = Layout(tensors, groups)

    def layer(self, base: Values, phase: int, seed: int) -> Trained:
        """What a client sends in this phase of FedMA."""
        part = layer_layout(base.layout, chain_of(base.layout), phase, self.units)
        update = Values.zeros(part, frozen=False)
        np.random.default_rng(seed).standard_normal(dtype=np.float32, out=update.trainable)
        return Trained(update, examples=1 + seed % 7)


class LayerSender(RehearsalWorker):
    """Sends one layer a round. The one before that is gone, so that clients' memory stays small."""

    async def _make(self, assignment: pb.Assignment) -> Held:
        if assignment.WhichOneof("work") != "train" or not isinstance(self.learner, Layered):
            return await super()._make(assignment)
        order = assignment.train
        base = await self._model(order.base)
        return self.encode(self.learner.layer(base, order.matched.phase, order.seed), CodecId(order.codec))


class Sampler:
    """The highest RssAnon of a process while it is watched, and in each of its rounds."""

    def __init__(self, pid: int) -> None:
        self.peak_kb = 0
        self.rounds_kb: list[int] = []
        self._round_kb = 0
        self._status = Path(f"/proc/{pid}/status")
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def now_kb(self) -> int:
        try:
            lines = self._status.read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)

    def hear(self, lines: Iterable[bytes]) -> None:
        """What the process says: at each commit another round begins."""
        for line in lines:
            if json.loads(line)["event"] == "committed":
                self.rounds_kb.append(self._round_kb)
                self._round_kb = 0

    def _watch(self) -> None:
        while now := self.now_kb():
            self.peak_kb = max(self.peak_kb, now)
            self._round_kb = max(self._round_kb, now)
            time.sleep(SAMPLE_S)


MEAN: dict[str, Any] = {}
OTHERS: dict[str, tuple[float, dict[str, Any]]] = {  # what else a job asks for, and models over idle that it may take
    "adam": (4, {"strategy": {"type": "FedAdam"}}),
    "scaffold": (5, {"strategy": {"type": "Scaffold"}}),
    "median": (6, {"robustness": {"aggregation": {"type": "Median"}}}),
    "krum": (6, {"robustness": {"aggregation": {"type": "Krum", "krum": {"byzantine": 2}}}}),
    "fedma": (7, {"strategy": {"type": "FedMA"}}),
}


@dataclass(frozen=True)
class Case:
    """One run."""

    clients: int
    rounds: int
    model_mb: int
    name: str
    asked: dict[str, Any]
    preset: str = "none"  # of compression


def write_job(folder: Path, case: Case) -> Path:
    """A resolved job without evaluations."""
    document = {
        "apiVersion": "muster.dev/v1alpha1",
        "kind": "FederatedJob",
        "metadata": {"name": "memory"},
        "spec": {
            "task": {"entrypoint": "rehearsal:Task"},
            "pools": [{"name": "p", "inline": {"type": "Kubernetes", "clients": case.clients}}],
            "rounds": {"total": case.rounds, "deadlineSeconds": 600, "minUpdates": case.clients},
            "compression": {"preset": case.preset},
            "evaluation": {"central": {"type": "Never"}, "federated": False},
            **case.asked,
        },
    }
    manifest = folder / "manifest.yaml"
    manifest.write_text(yaml.safe_dump(document))
    job = folder / "job.json"
    job.write_bytes(msgspec.json.encode(resolve(load([manifest]), uid="memory")))
    return job


def measure(case: Case) -> tuple[float, float, float]:
    """Idle, a round's median and the highest RssAnon in MB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "token").write_text(TOKEN)
        command = [sys.executable, "-m", "muster_coordinator", "--job", str(write_job(folder, case))]
        command += ["--storage", str(folder / "storage"), "--listen", "127.0.0.1:0"]
        command += ["--token-file", str(folder / "token")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            if process.stdout is None:
                raise RuntimeError("a process with a pipe has one")
            address = json.loads(process.stdout.readline())["address"]
            time.sleep(0.5)
            sampler = Sampler(process.pid)
            threading.Thread(target=sampler.hear, args=[process.stdout], daemon=True).start()
            idle_kb = sampler.now_kb()
            sampler.start()
            began = time.monotonic()
            asyncio.run(_work(address, case))
            took = time.monotonic() - began
            if process.wait(60) != 0:
                raise RuntimeError(f"the coordinator ended with {process.returncode}")
    idle, peak = idle_kb / 1000, sampler.peak_kb / 1000
    usual = statistics.median(sampler.rounds_kb[1:]) / 1000  # without the making of the first model
    what = f"{case.name}, {case.clients} clients"
    figures = (
        f"idle {idle:.1f} MB, {usual:.1f} MB in a round, {peak:.1f} MB at most, {took / case.rounds:.1f} s a round"
    )
    print(f"{what}: {figures}", flush=True)
    return idle, usual, peak


async def _work(address: str, case: Case) -> None:
    is_matched = case.asked.get("strategy", {}).get("type") == "FedMA"
    worker, kind = (LayerSender, Layered) if is_matched else (Sender, Ballast)
    learner = kind(case.model_mb * 1_000_000 // 4)
    Sender.encoded = None
    workers = [worker(address, TOKEN, "p", [index], learner, f"w{index}") for index in range(case.clients)]
    await asyncio.gather(*(worker.run() for worker in workers))


def main() -> int:
    """Measure with a few and with four times as many clients; 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-mb", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--clients", type=int, nargs=2, default=(8, 32))
    parser.add_argument(
        "--preset", default="none", help="of compression; with another than none only the mean is measured"
    )
    parser.add_argument("--mean-only", action="store_true", help="leave all else out: optimisers, rules")
    given = parser.parse_args()
    few, many = given.clients

    def over(name: str, asked: dict[str, Any]) -> tuple[float, float, float, float]:
        """Idle, a round's peak with few and with many clients, and how many models over idle the highest was."""
        cases = [Case(clients, given.rounds, given.model_mb, name, asked, given.preset) for clients in (few, many)]
        (idle, less, highest), (other, more, another) = map(measure, cases)
        idle = max(idle, other)
        return idle, less, more, (max(highest, another) - idle) / given.model_mb

    idle, less, more, models = over("mean", MEAN)
    figures = {"idle_mb": idle, f"mb_{few}": less, f"mb_{many}": more, "models_over_idle": models}
    holds = models < 4 and abs(more - less) <= 0.1 * less
    for name, (most, asked) in ({} if given.mean_only or given.preset != "none" else OTHERS).items():
        _, less, more, models = over(name, asked)
        figures |= {f"{name}_mb_{few}": less, f"{name}_mb_{many}": more, f"models_over_idle_{name}": models}
        holds = holds and models < most and abs(more - less) <= 0.1 * less
    print(json.dumps({key: round(value, 2) for key, value in figures.items()} | {"holds": holds}))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
