"""A running coordinator, scraped: what it serves, and what a restart, a bad address and a refused caller do to it."""

import json
import time
import urllib.request

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from coordinating import coordinator, errors_of, workers, write_job
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.v1.federation_pb2_grpc import FederationStub

METRICS = ("--metrics", "127.0.0.1:0")


def scrape(running):
    """Each sample's name and labels (by their names, and but for whose job it is) → its value."""
    with urllib.request.urlopen(f"http://{running.until('listening')['metrics']}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    ours = [sample for sample in samples if sample.name.startswith("muster_")]
    assert {(each.labels.pop("namespace"), each.labels.pop("fedjob")) for each in ours} == {("default", "small")}
    return {(each.name, *each.labels.values()): each.value for each in samples}


def until(is_so):
    """A call is counted after its answer is sent."""
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_scrape_says_how_the_rounds_go_and_a_restart_goes_on_where_it_was(tmp_path):
    job = write_job(tmp_path, rounds={"total": 100_000})
    with coordinator(tmp_path, job, arguments=METRICS) as first, workers(first.address):
        first.until("committed", round=2)
        seen = scrape(first)
        assert seen["muster_round_committed",] >= 2
        assert seen["muster_rounds_committed_total",] >= 2
        assert seen["muster_sessions",] == 3
        assert seen["muster_calls_in_flight", "Listen"] == 3
        assert seen["muster_calls_total", "OK", "Submit"] >= 6
        assert seen["muster_transfer_bytes_total", "up"] > 1000
        assert seen["muster_round_phase_seconds_count", "collecting"] >= 2
        assert seen["muster_checkpoint_seconds_count", "model"] >= 2
        assert seen["process_resident_memory_bytes", "small", "default"] > 1e6
        address = first.address
        first.process.kill()
        with coordinator(tmp_path, job, listen=address, arguments=METRICS) as second:
            second.until("resumed")
            assert scrape(second)["muster_round_committed",] >= 2, "what is so is said at once"


def test_a_caller_that_is_refused_is_counted(tmp_path):
    with coordinator(tmp_path, write_job(tmp_path), arguments=METRICS) as running:
        with grpc.insecure_channel(running.address) as channel, pytest.raises(grpc.RpcError):
            FederationStub(channel).Join(pb.JoinRequest(), metadata=(("authorization", "Bearer wrong"),), timeout=10)
        until(lambda: scrape(running).get(("muster_calls_total", "UNAUTHENTICATED", "Join")) == 1)


def test_a_port_that_is_taken_ends_it_with_one_line(tmp_path):
    job = write_job(tmp_path)
    with coordinator(tmp_path, job, arguments=METRICS) as running:
        taken = running.until("listening")["metrics"]
        (tmp_path / "other").mkdir()
        with coordinator(tmp_path / "other", job, arguments=("--metrics", taken)) as late:
            assert late.wait() == 2
        assert f"--metrics {taken}: can't be opened" in errors_of(tmp_path / "other")


def test_logs_for_machines_say_whose_they_are(tmp_path):
    job = write_job(tmp_path)
    with coordinator(tmp_path, job, arguments=("--log-format", "json")) as running, workers(running.address):
        running.until("finished")
    lines = [json.loads(line) for line in errors_of(tmp_path).splitlines()]
    assert {(line["namespace"], line["job"], line["level"]) for line in lines} == {("default", "small", "info")}
    [received] = [line for line in lines if line.get("client") == "p/1" and line.get("round") == 2]
    assert received["pool"] == "p"
    assert "p/1 sent its update" in received["message"]


def test_an_error_is_one_line_for_machines_too(tmp_path):
    job = write_job(tmp_path)
    (tmp_path / "storage").write_text("in the way")
    with coordinator(tmp_path, job, arguments=("--log-format", "json")) as running:
        assert running.wait() == 2
    last = json.loads(errors_of(tmp_path).splitlines()[-1])
    assert last["level"] == "error"
    assert "storage" in last["message"]
