"""`muster run --pools real` over the private SLURM of tests."""

import json
import os
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path

from running import TASKS, running
from slurming import ROOT, found_by_commands

PYTHONS = os.pathsep.join(str(ROOT / folder) for folder in ("operator", "worker", "protos"))


def write_job(
    folder,
    how,
    *,
    clients=4,
    per_worker=2,
    seconds=0.0,
    rounds=4,
    gate="",
    initial=None,
    limit=6,
    time_limit="10m",
    more="",
):
    """Small clients, several to a worker, with state that outlives their jobs: what is left to send, and momentum."""
    config = {"seconds": seconds, "gate": str(gate)}
    first = {"type": "File", "file": {"path": str(initial)}} if initial else {"type": "Client"}
    (folder / "job.yaml").write_text(
        textwrap.dedent(f"""
        apiVersion: muster.dev/v1alpha1
        kind: FederatedJob
        metadata: {{name: small}}
        spec:
          task:
            entrypoint: small:Small
            source: {{type: Path, path: {{path: {json.dumps(str(TASKS))}}}}}
            config: {json.dumps(config)}
            initialModel: {json.dumps(first)}
          runPolicy: {{backoffLimit: {limit}}}
          rounds: {{total: {rounds}, deadlineSeconds: 120, minUpdates: {clients}}}
          local: {{epochs: 1, batchSize: 16, learningRate: 0.1}}
          compression: {{up: {{codecs: [{{type: TopK, topK: {{share: 0.5, momentum: 0.5}}}}]}}}}
          pools:
          - name: hpc
            inline:
              type: Slurm
              clients: {clients}
              workers: {{clientsPerWorker: {per_worker}}}
              state: {{type: Path, path: {{path: {folder}/state}}}}
              slurm:
                {how}
                timeLimit: {time_limit}
                signalSeconds: 10
                workDir: {folder}
                preamble: export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={PYTHONS}
                {more}
        """)
    )
    return folder / "job.yaml"


@contextmanager
def training(slurm, folder, *arguments):
    """A run under way, which finds the private SLURM."""
    secrets = ("--secrets", folder / "secrets") if (folder / "secrets").exists() else ()
    options = ("--pools", "real", "--poll", "1", "--address", "localhost:0", "--out", folder / "out", *secrets)
    with found_by_commands(slurm), running(folder / "job.yaml", *options, *arguments, cwd=folder) as run:
        yield run
