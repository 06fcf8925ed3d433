"""A namespace is deleted under a job."""

from __future__ import annotations

import json
import time

from faults.jobs import TASK, Lab, manifest, pool
from real_nodes import team

_NAME = "passing"


def namespace_deleted(lab: Lab) -> None:
    """It goes, with a worker that trained and with one that no node ever took. Kubernetes deletes pods first, and waits
    until they have gone; of an Indexed Job it keeps a pod until the next one is there, which can't be made any more.
    """
    cluster = lab.team.nodes.cluster
    pools = [pool("near"), pool("nowhere", node="absent", clients=1, trusted=False)]
    with team(lab.team.nodes, _NAME) as own:
        own.tell("create", "configmap", "stepping", f"--from-file={TASK}")
        own.tell("apply", "-f", "-", manifest=json.dumps(manifest(_NAME, pools, rounds={"total": 1000})))
        own.wait_for_round(_NAME, 1)
        broken_at, ended = time.monotonic(), "FAILED: it stays"
        try:
            cluster.tell("delete", "namespace", _NAME, "--timeout=150s")
            ended = "gone"
        finally:
            lab.report("namespace deleted under a job", time.monotonic() - broken_at, ended)
