"""Who looks on while a worker works: what is counted, and what is logged."""

import json
import logging

import pytest
from prometheus_client import generate_latest

from muster.errors import ConnectionBrokenError, MusterError
from muster.metrics import WorkerMetrics
from muster.orders import Assignment, Initialise
from muster.witness import Nobody, Several, Watch
from muster_telemetry.logs import JsonFormatter

WORK = Assignment(id="3.0.p/1", client="p/1", round=3, work=Initialise(seed=1))


def scraped(metrics):
    lines = [line.rpartition(" ") for line in generate_latest(metrics.registry).decode().splitlines()]
    return {name: float(value) for name, _, value in lines if name.startswith("muster_worker")}


def test_what_is_done_is_timed_and_what_breaks_is_told_apart():
    metrics = WorkerMetrics({"pool": "p"})
    with metrics.doing("train", WORK):
        assert scraped(metrics)['muster_worker_working{pool="p",work="train"}'] == 1
    with pytest.raises(ConnectionBrokenError), metrics.doing("submit", WORK):
        raise ConnectionBrokenError("cut")
    metrics.settled(used=True)
    metrics.settled(used=False)
    found = scraped(metrics)
    assert found['muster_worker_working{pool="p",work="train"}'] == 0
    assert found['muster_worker_work_seconds_count{pool="p",result="done",work="train"}'] == 1
    assert found['muster_worker_work_seconds_count{pool="p",result="broken",work="submit"}'] == 1
    assert found['muster_worker_updates_settled_total{pool="p",used="false"}'] == 1


def test_all_of_several_look_on():
    first, second = WorkerMetrics({}), WorkerMetrics({})
    several = Several(Nobody(), first, second)
    with several.doing("evaluate", WORK):
        line = json.loads(JsonFormatter({}).format(logging.LogRecord("x", 20, "", 0, "m", None, None)))
    several.settled(used=True)
    assert (line["round"], line["client"]) == (3, "p/1")
    for metrics in (first, second):
        assert scraped(metrics)['muster_worker_updates_settled_total{used="true"}'] == 1
        assert scraped(metrics)['muster_worker_work_seconds_count{result="done",work="evaluate"}'] == 1


def test_where_nothing_was_asked_for_nothing_is_carried_or_served():
    watch = Watch("p", None)
    assert watch.carry() == ()
    with watch.joined("digits", "uid").doing("train", WORK):
        assert watch.carry() == ()
    watch.close()


def test_an_address_of_another_machine_is_an_error_with_its_place():
    watch = Watch("p", "192.0.2.1:9464")
    with pytest.raises(MusterError, match=r"--metrics 192.0.2.1:9464: can't be opened"):
        watch.joined("digits", "uid")
