"""Jobs with one SLURM pool, for tests."""

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


def slurm_job(folder, slurm="{command: {type: Local}}", **pool):
    """The resolved job and its pool; keywords are fields of the pool, in YAML."""
    fields = {"clients": 4, "slurm": slurm} | pool
    file = folder / "job.yaml"
    file.write_text(MANIFEST + "".join(f"      {name}: {value}\n" for name, value in fields.items()))
    job = msgspec.structs.replace(resolve(load([file])), uid=UID)
    return job, job.pools[0]
