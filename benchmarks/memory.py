"""What a coordinator's memory does when clients grow: peak RssAnon of a real process with a 25 MB model.

Clients are rehearsal workers in this process, all sending at once; the coordinator is a process of its own, sampled
every few milliseconds from /proc. Must hold: below idle + 4 models, and the same within 10 % with twice the clients.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import yaml

from muster_coordinator.rehearsal import Drift, Held, RehearsalWorker, Trained
from muster_spec import load, resolve
from muster_wire.codecs import CodecId
from muster_wire.values import Values

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


class Sampler:
    """The highest RssAnon of a process while it is watched."""

    def __init__(self, pid: int) -> None:
        self.peak_kb = 0
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

    def _watch(self) -> None:
        while now := self.now_kb():
            self.peak_kb = max(self.peak_kb, now)
            time.sleep(SAMPLE_S)


def write_job(folder: Path, clients: int, rounds: int) -> Path:
    """A resolved job without evaluations."""
    document = {
        "apiVersion": "muster.dev/v1alpha1",
        "kind": "FederatedJob",
        "metadata": {"name": "memory"},
        "spec": {
            "task": {"entrypoint": "rehearsal:Task"},
            "pools": [{"name": "p", "inline": {"type": "Kubernetes", "clients": clients}}],
            "rounds": {"total": rounds, "deadlineSeconds": 600},
            "evaluation": {"central": {"type": "Never"}, "federated": False},
        },
    }
    manifest = folder / "manifest.yaml"
    manifest.write_text(yaml.safe_dump(document))
    job = folder / "job.json"
    job.write_bytes(msgspec.json.encode(resolve(load([manifest]), uid="memory")))
    return job


def measure(clients: int, rounds: int, model_mb: int) -> tuple[float, float, float]:
    """Idle and peak RssAnon in MB, and the seconds a round took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "token").write_text(TOKEN)
        command = [sys.executable, "-m", "muster_coordinator", "--job", str(write_job(folder, clients, rounds))]
        command += ["--storage", str(folder / "storage"), "--listen", "127.0.0.1:0"]
        command += ["--token-file", str(folder / "token")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            if process.stdout is None:
                raise RuntimeError("a process with a pipe has one")
            address = json.loads(process.stdout.readline())["address"]
            drain = threading.Thread(target=process.stdout.read, daemon=True)
            drain.start()
            time.sleep(0.5)
            sampler = Sampler(process.pid)
            idle_kb = sampler.now_kb()
            sampler.start()
            began = time.monotonic()
            asyncio.run(_work(address, clients, model_mb))
            took = time.monotonic() - began
            if process.wait(60) != 0:
                raise RuntimeError(f"the coordinator ended with {process.returncode}")
    return idle_kb / 1000, sampler.peak_kb / 1000, took / rounds


async def _work(address: str, clients: int, model_mb: int) -> None:
    learner = Ballast(model_mb * 1_000_000 // 4)
    Sender.encoded = None
    workers = [Sender(address, TOKEN, "p", [index], learner, f"w{index}") for index in range(clients)]
    await asyncio.gather(*(worker.run() for worker in workers))


def main() -> int:
    """Measure with 8 and with 32 clients; 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-mb", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args()
    peaks, idles = {}, []
    for clients in (8, 32):
        idle, peaks[clients], seconds = measure(clients, given.rounds, given.model_mb)
        idles.append(idle)
        print(
            f"{clients} clients: idle {idle:.1f} MB, peak {peaks[clients]:.1f} MB, {seconds:.1f} s a round", flush=True
        )
    idle = max(idles)
    over = (max(peaks.values()) - idle) / given.model_mb
    holds = over < 4 and abs(peaks[32] - peaks[8]) <= 0.1 * peaks[8]
    figures = {"idle_mb": idle, "mb_8": peaks[8], "mb_32": peaks[32], "models_over_idle": over}
    print(json.dumps({key: round(value, 2) for key, value in figures.items()} | {"holds": holds}))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
