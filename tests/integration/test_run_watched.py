"""`muster run` as it is watched: its metrics while it trains, and its logs for machines."""

import json
import urllib.request
from contextlib import contextmanager

import pytest

from running import muster, running, write_job


@contextmanager
def run(folder, *arguments):
    with running(write_job(folder, seconds=0.3), "--no-baselines", "--out", "run", *arguments, cwd=folder) as run:
        yield run


def test_metrics_are_served_where_they_were_asked_for(tmp_path):
    with run(tmp_path, "--metrics", "127.0.0.1:0") as train:
        address = train.until(lambda event: event["event"] == "listening")["metrics"]
        train.committed(1)
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines['muster_rounds_committed_total{fedjob="small",namespace="default"}']) >= 1
    assert float(lines['muster_clients{fedjob="small",namespace="default",pool="a",state="here"}']) == 2


def test_nothing_is_served_unless_it_is_asked_for(tmp_path):
    with run(tmp_path) as train:
        assert "metrics" not in train.until(lambda event: event["event"] == "listening")


@pytest.mark.parametrize("address", ["9464", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:70000"])
def test_an_address_that_is_none_is_refused_before_anything_starts(tmp_path, address):
    done = muster("run", write_job(tmp_path), "--metrics", address, cwd=tmp_path)
    assert done.returncode == 2
    assert f"--metrics {address}: write HOST:PORT" in done.stderr
    assert not (tmp_path / "muster-runs").exists()


def test_logs_for_machines_say_which_job_round_client_and_pool(tmp_path):
    done = muster(
        *("run", write_job(tmp_path), "--json", "--no-baselines", "--out", "run"),
        cwd=tmp_path,
        MUSTER_LOG_FORMAT="json",
    )
    assert done.returncode == 0, done.stderr
    logs = {path.stem: path.read_text().splitlines() for path in (tmp_path / "run" / "logs").glob("*.log")}
    coordinator, worker = ([json.loads(line) for line in lines] for lines in (logs["coordinator"], of_a_worker(logs)))
    assert {line["job"] for line in coordinator} == {"small"}
    assert [line for line in coordinator if line.get("client") == "a/1" and line.get("pool") == "a"]
    settled = [line for line in worker if "was used" in line["message"]]
    assert settled
    assert {line["job"] for line in settled} == {"small"}
    assert all(line["pool"] in {"a", "b"} and line["time"] and line["level"] for line in worker)


def of_a_worker(logs):
    return next(lines for name, lines in logs.items() if name not in {"coordinator", "nursery"})
