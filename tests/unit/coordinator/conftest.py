"""A resolved job, and changed copies of it."""

import msgspec
import pytest

from muster_spec.types import ResolvedJob

DOCUMENT = {
    "name": "small",
    "namespace": "default",
    "uid": "job-1",
    "spec": {
        "task": {"entrypoint": "m:T", "config": {}, "initialModel": {"type": "Client"}},
        "pools": [{"name": "p"}],
        "rounds": {
            "mode": "Synchronous",
            "total": 5,
            "deadlineSeconds": 60,
            "overselect": 0,
            "onInsufficient": "Retry",
            "maxFailedRounds": 3,
            "lateUpdates": {"type": "Discard"},
        },
        "strategy": {"type": "FedAvg"},
        "local": {
            "epochs": 1,
            "batchSize": 8,
            "learningRate": 0.1,
            "optimizer": {"type": "SGD", "momentum": 0, "weightDecay": 0},
        },
        "evaluation": {"every": 1, "central": {"type": "Auto"}, "federated": False, "timeoutSeconds": 60},
        "seed": 1,
        "suspend": False,
    },
    "pools": [
        {"name": "p", "spec": {"type": "Kubernetes", "clients": 3, "workers": {"min": 1, "clientsPerWorker": 1}}}
    ],
}


@pytest.fixture
def resolved_job():
    return msgspec.convert(DOCUMENT, ResolvedJob)


@pytest.fixture
def replaced():
    def replace(job, **changes):
        document = msgspec.to_builtins(job)
        for path, value in changes.items():
            *parents, leaf = path.split(".")
            place = document
            for name in parents:
                place = place[int(name)] if isinstance(place, (list, tuple)) else place[name]
            place[leaf] = value
        return msgspec.convert(document, ResolvedJob)

    return replace
