"""What jobs declare to need, beside the memory that a real coordinator takes: only so a budget is kept."""

import msgspec
import pytest

from memory import OTHERS, Ballast, Case, Layered, measure, write_job
from muster_coordinator.budget import IDLE_BYTES, demand_of, model_bytes
from muster_coordinator.compression import codecs_of
from muster_coordinator.limits import frame_bytes
from muster_coordinator.makings import combining_of_job, strategy_of_job
from muster_spec.types import ResolvedJob

CLIENTS, ROUNDS, MODEL_MB = 3, 4, 16
SLACK = 5_000_000  # of libraries that come with the first call, and of the heap: a third of a model

TOP = {"type": "TopK", "topK": {"share": 0.04}}
BY_HAND = {"compression": {"deltas": True, "down": {"codecs": [TOP]}}}
ASKED = {"mean": {}, "top-k": BY_HAND, "max": {"compression": {"preset": "max"}}} | {
    name: asked for name, (_, asked) in OTHERS.items() if name != "krum"
}


def declared(job):
    """Bytes beyond idle, with everybody's frames at once: there is no budget that would make them wait."""
    layout = (Layered if job.spec.strategy.fed_ma else Ballast)(MODEL_MB * 250_000).layout
    down = codecs_of(job.spec.compression).down
    demand = demand_of(strategy_of_job(job), combining_of_job(job), CLIENTS, frame_bytes(CLIENTS), down)
    return demand.for_model(demand.largest(layout)) - IDLE_BYTES + CLIENTS * demand.for_transfer(model_bytes(layout))


@pytest.mark.parametrize("name", ASKED)
def test_a_coordinator_takes_no_more_than_its_job_declares(tmp_path, name):
    case = Case(CLIENTS, ROUNDS, MODEL_MB, name, ASKED[name])
    most = declared(msgspec.json.decode(write_job(tmp_path, case).read_bytes(), type=ResolvedJob))
    idle_mb, _, peak_mb = measure(case)
    assert peak_mb - idle_mb <= (most + SLACK) / 1e6
