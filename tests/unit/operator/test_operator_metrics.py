"""The operator's metrics: what is counted, what a scrape reads, and when a watch counts as heard of."""

from __future__ import annotations

import asyncio
import re

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from muster_operator.api import Api
from muster_operator.connection import Connection
from muster_operator.errors import TryLater
from muster_operator.metrics import OperatorMetrics, Sights
from muster_operator.queue import JobKey, Standing, WorkQueue


def scraped(registry: CollectorRegistry) -> dict[str, float]:
    """Every sample's name and labels → its value."""
    lines = [line.rpartition(" ") for line in generate_latest(registry).decode().splitlines() if line[:1] != "#"]
    return {name: float(value) for name, _, value in lines}


def test_what_is_done_is_counted() -> None:
    metrics = OperatorMetrics()
    metrics.reconciled("FederatedJob", "done", 0.02)
    metrics.answered("PATCH", "services", 409, 0.1)
    metrics.retried()
    found = scraped(metrics.registry)
    assert found['muster_operator_reconcile_seconds_count{kind="FederatedJob",result="done"}'] == 1
    assert found['muster_operator_api_requests_total{code="409",resource="services",verb="PATCH"}'] == 1
    assert found['muster_operator_api_request_seconds_sum{verb="PATCH"}'] == 0.1
    assert found["muster_operator_api_retries_total"] == 1
    assert any(name.startswith('muster_build_info{component="operator"') for name in found)


def test_a_job_that_is_gone_leaves_no_series_behind() -> None:
    metrics, jobs = OperatorMetrics(), dict[JobKey, str]()
    metrics.look_at(
        Sights(lambda: True, lambda: {"ClientPool": Standing(1, 2, 3, 4.5)}, lambda: jobs, lambda: {"Pod": 6.0})
    )
    jobs["lab", "digits"] = "Running"
    found = scraped(metrics.registry)
    assert found['muster_job_phase{fedjob="digits",namespace="lab",phase="Running"}'] == 1
    assert found['muster_operator_jobs{phase="Running"}'] == 1
    assert found['muster_operator_queue_objects{kind="ClientPool",state="later"}'] == 2
    assert found['muster_operator_queue_oldest_seconds{kind="ClientPool"}'] == 4.5
    assert found['muster_operator_watch_silence_seconds{kind="Pod"}'] == 6
    assert found["muster_operator_leading"] == 1
    jobs.clear()
    found = scraped(metrics.registry)
    assert found['muster_operator_jobs{phase="Running"}'] == 0
    assert not [name for name in found if "digits" in name]


def test_names_follow_the_rules() -> None:
    metrics = OperatorMetrics()
    metrics.look_at(Sights(lambda: True, dict, dict, dict))
    names = [metric.name for metric in metrics.registry.collect() if metric.name.startswith("muster")]
    assert len(names) >= 9
    for name in names:
        assert re.fullmatch(r"muster_[a-z_]+", name)
        assert not re.search(r"_(total|count|sum|bucket|ms|minutes|kb|mb)$", name)


def test_the_queue_says_how_far_behind_it_is() -> None:
    time = [100.0]
    queue = WorkQueue(lambda: time[0])
    queue.add(("lab", "a"))
    queue.add(("lab", "b"), after_s=60)
    time[0] = 107.0
    assert queue.standing() == Standing(due=1, later=1, busy=0, oldest_s=7.0)
    assert asyncio.run(queue.take()) == ("lab", "a")
    assert queue.standing() == Standing(due=0, later=1, busy=1, oldest_s=0.0)


class Counting:
    """A meter that remembers."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, str, int]] = []
        self.retries = 0

    def answered(self, verb: str, resource: str, code: int, seconds: float) -> None:
        assert seconds >= 0
        self.answers.append((verb, resource, code))

    def retried(self) -> None:
        self.retries += 1


def test_requests_are_counted_by_verb_resource_and_code() -> None:
    codes = [503, 200, 200]
    meter = Counting()

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({"items": []}, status=codes.pop(0), headers={"Retry-After": "0"})

    async def use(url: str) -> None:
        api = Api(Connection(url), meter=meter)
        await api.get("Role", "lab", "one")
        await api.list("Pod", None)
        await api.close()

    asyncio.run(served(answer, use))
    assert meter.answers == [("GET", "roles", 503), ("GET", "roles", 200), ("GET", "pods", 200)]
    assert meter.retries == 1


def test_a_server_that_is_away_is_code_0() -> None:
    meter = Counting()

    async def ask() -> None:
        api = Api(Connection("http://127.0.0.1:1"), meter=meter)
        try:
            with pytest.raises(TryLater):
                await api._send("GET", "/api/v1/namespaces/lab/pods", None, {}, "application/json")
        finally:
            await api.close()

    asyncio.run(ask())
    assert meter.answers == [("GET", "pods", 0)]


async def served(answer, use) -> None:  # type: ignore[no-untyped-def]
    """A server for as long as it is used."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        await use(f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()
