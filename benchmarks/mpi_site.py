"""A site of four MPI ranks against four clients with the same shards: how far their models differ, and what they send.

Digits in four shards of different sizes and classes. Both times the same task, seeds and batches, float32 on the line;
once `mpirun` starts four ranks that are one client, once four workers are a client each. Differences are in units of
2⁻²³ times the largest weight: a rounding to float32 is off by half of that at most.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml

from muster_coordinator.models import read_model
from muster_spec.loading import load
from muster_spec.resolving import resolve
from muster_wire.values import Values

HERE = Path(__file__).parent
RANKS = 4
TOKEN = "a-token-for-a-benchmark"  # noqa: S105
WORKER = (sys.executable, "-m", "muster_cli.main", "worker", "--pool", "p", "--coordinator")
ENVIRONMENT = {
    **os.environ,
    "MUSTER_TOKEN": TOKEN,
    "OMP_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
}


def write_job(folder: Path, clients: int, rounds: int) -> Path:
    """The job over the shards, as its coordinator reads it."""
    document = {
        "apiVersion": "muster.dev/v1alpha1",
        "kind": "FederatedJob",
        "metadata": {"name": "shards"},
        "spec": {
            "task": {
                "entrypoint": "shards:Shards",
                "source": {"type": "Path", "path": {"path": str(HERE / "sites")}},
                "config": {"partition": {"type": "dirichlet", "alpha": 0.5}},
            },
            "pools": [{"name": "p", "inline": {"type": "Kubernetes", "clients": clients}}],
            "rounds": {"total": rounds, "deadlineSeconds": 600, "minUpdates": clients},
            "local": {"epochs": 2, "batchSize": 16, "learningRate": 0.05},
            "evaluation": {"every": rounds, "federated": False},
            "compression": {"preset": "none"},
        },
    }
    manifest = folder / "manifest.yaml"
    manifest.write_text(yaml.safe_dump(document))
    job = folder / "job.json"
    job.write_bytes(msgspec.json.encode(resolve(load([manifest]), uid="benchmark")))
    (folder / "token").write_text(TOKEN)
    return job


def measure(clients: int, rounds: int) -> tuple[Values, dict[str, Any]]:
    """The last model, and what its coordinator says of the whole run."""
    with tempfile.TemporaryDirectory(prefix="muster-benchmark-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", "muster_coordinator", "--job", str(write_job(folder, clients, rounds))]
        command += ["--storage", f"{folder}/storage", "--listen", "127.0.0.1:0", "--token-file", f"{folder}/token"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                closing = _see_through(process, clients)
            finally:
                process.kill()
        return read_model(folder / "storage" / "final.safetensors").values, closing


def _see_through(process: subprocess.Popen[str], clients: int) -> dict[str, Any]:
    if process.stdout is None:
        raise RuntimeError("a process with a pipe has one")
    address = json.loads(process.stdout.readline())["address"]
    closing: dict[str, Any] = {}
    updates = 0
    with _workers(address, clients):
        for line in process.stdout:
            event = json.loads(line)
            closing = event if event["event"] == "finished" else closing
            updates += event["bytes"] if event["event"] == "received" and event["round"] else 0
    if closing.get("outcome") != "Complete":
        sys.exit(f"a job did not end well: {closing}")
    return {**closing, "updates": updates}


@contextlib.contextmanager
def _workers(address: str, clients: int) -> Iterator[None]:
    """Ranks of one client, or a worker for each of several."""
    site: Sequence[Sequence[str]] = [
        ("mpirun", "-n", str(RANKS), "--oversubscribe", *WORKER, address, "--ranks", "mpi"),
    ]
    alone = [(*WORKER, address, "--indices", str(index)) for index in range(clients)]
    with contextlib.ExitStack() as stack:
        for command in site if clients == 1 else alone:
            process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
        yield


def main() -> int:
    """Measure both, and print what lies between them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    if shutil.which("mpirun") is None:
        print("skipped: there is no mpirun on this machine")
        return 77
    (site, one), (apart, four) = measure(1, rounds), measure(RANKS, rounds)
    largest = float(np.abs(apart.trainable).max())
    off = float(np.abs(site.trainable.astype(np.float64) - apart.trainable).max())
    result = {
        "ranks": RANKS,
        "rounds": rounds,
        "largest_weight": round(largest, 4),
        "largest_difference": off,
        "in_roundings": round(off / (2.0**-23 * largest), 2),
        "equal_weights": round(float(np.mean(site.trainable == apart.trainable)), 4),
        "update_bytes": [one["updates"], four["updates"]],
        "update_ratio": round(four["updates"] / one["updates"], 3),
        "bytes_down": [one["bytesDown"], four["bytesDown"]],
        "down_ratio": round(four["bytesDown"] / one["bytesDown"], 3),
        "accuracy": [one["metrics"].get("accuracy"), four["metrics"].get("accuracy")],
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
