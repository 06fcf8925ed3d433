"""Jobs with one SLURM pool, for tests."""

import json

import msgspec

from muster_spec.loading import load
from muster_spec.resolving import resolve

UID = "0a1b2c3d"
MANIFEST = """
apiVersion: muster.dev/v1alpha1
kind: FederatedJob
metadata: {name: digits, namespace: lab}
spec:
  task: {entrypoint: "muster.tasks.digits:Digits"}
  pools:
  - name: hpc
    inline:
      type: Slurm
"""
EVERYTHING = {
    "partition": "gpu",
    "account": "phys",
    "qos": "long",
    "constraint": "a100&nvme",
    "reservation": "course",
    "gres": "gpu:2",
    "nodes": 1,
    "tasks": 1,
    "cpusPerTask": 8,
    "memory": "16G",
    "timeLimit": "1h30m",
    "requeue": False,
    "signalSeconds": 90,
    "workDir": "/scratch/fl",
    "modules": ["cuda/12.4", "python/3.11"],
    "preamble": "source env/bin/activate",
    "environment": [{"name": "A", "value": "1"}, {"name": "B", "secret": {"name": "s", "key": "k"}}],
}
BY_COMMANDS = {"command": {"type": "Local"}}
BY_REST = {
    "url": "https://slurm.example.org",
    "auth": {"user": "fl", "tokenSecret": {"name": "site", "key": "token"}},
}


def everything(way=BY_COMMANDS):
    """A pool's slurm with all that a job can ask for, by this way to SLURM."""
    return json.dumps(way | EVERYTHING)


def slurm_job(folder, slurm="{command: {type: Local}}", **pool):
    """The resolved job and its pool; keywords are fields of the pool, in YAML."""
    fields = {"clients": 4, "slurm": slurm} | pool
    file = folder / "job.yaml"
    file.write_text(MANIFEST + "".join(f"      {name}: {value}\n" for name, value in fields.items()))
    job = msgspec.structs.replace(resolve(load([file])), uid=UID)
    return job, job.pools[0]
