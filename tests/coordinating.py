"""Starts real coordinator processes for small jobs, listens to them, and lets rehearsal workers work for them."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import msgspec
import yaml

from muster_coordinator.durable import unseal
from muster_coordinator.models import read_model
from muster_coordinator.records import RoundCommit
from muster_coordinator.rehearsal import Drift, RehearsalWorker
from muster_spec.loading import load
from muster_spec.resolving import resolve

TOKEN = "a-token-for-this-very-job"  # noqa: S105
GIVE_UP_S = 120  # machines are loaded at times
MORTAL = Path(__file__).parent / "fakes" / "mortal_coordinator.py"
WEIGHTS = 5_000
EXHAUSTIVE = "MUSTER_EXHAUSTIVE"


def write_job(folder, *, clients=3, uid="job-1", **spec):
    """A small job of one pool, as the coordinator reads it."""
    document = {
        "apiVersion": "muster.dev/v1alpha1",
        "kind": "FederatedJob",
        "metadata": {"name": "small"},
        "spec": {
            "task": {"entrypoint": "rehearsal:Task"},
            "pools": [{"name": "p", "inline": {"type": "Kubernetes", "clients": clients}}],
            "rounds": {"total": 2, "deadlineSeconds": 20},
            "evaluation": {"every": 1, "central": {"type": "Never"}, "federated": False},
        },
    }
    for key, value in spec.items():
        document["spec"][key] = {**document["spec"].get(key, {}), **value} if isinstance(value, dict) else value
    manifest = folder / "manifest.yaml"
    manifest.write_text(yaml.safe_dump(document))
    path = folder / "job.json"
    path.write_bytes(msgspec.json.encode(resolve(load([manifest]), uid=uid)))
    return path


def a_third(places):
    """Every third place to be killed at, so that all tests together take minutes; all where MUSTER_EXHAUSTIVE is set.

    What a durable write does comes in fours, so thirds hit each of its steps.
    """
    return list(places) if os.environ.get(EXHAUSTIVE) else list(places)[::3]


class Coordinator:
    """One process."""

    def __init__(self, process):
        self.process = process
        self.events = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._news:
                self.events.append(json.loads(line))
                self._news.notify_all()

    def until(self, kind, timeout_s=GIVE_UP_S, **details):
        """The first event of this kind with these details."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while True:
                for event in self.events:
                    if event["event"] == kind and details.items() <= event.items():
                        return event
                left = deadline - time.monotonic()
                ended = not self._news.wait(min(max(left, 0.0), 0.2)) and not self._reader.is_alive()
                if left <= 0 or ended:
                    raise AssertionError(f"no {kind} {details}; {self.process.poll()}; {self.events[-6:]}")

    def until_true(self, condition, timeout_s=GIVE_UP_S):
        """Until this holds of what has been said."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError(f"never came true; {self.process.poll()}; {self.events[-6:]}")
            time.sleep(0.02)

    def of(self, kind):
        return [event for event in self.events if event["event"] == kind]

    @property
    def address(self):
        return self.until("listening")["address"]

    def wait(self, timeout_s=GIVE_UP_S):
        """Its exit code and what it said on stderr."""
        self.process.wait(timeout_s)
        self._reader.join(timeout_s)
        return self.process.returncode


def token_file(folder):
    token = folder / "token"
    token.write_text(TOKEN)
    return "--token-file", str(token)


@contextmanager
def coordinator(
    folder,
    job,
    listen="127.0.0.1:0",
    launcher=("-m", "muster_coordinator"),
    arguments=(),
    security=None,
    environment=None,
    *,
    storage=None,
):
    errors = folder / "errors.log"
    command = [sys.executable, *map(str, launcher), "--job", str(job), "--storage", str(storage or folder / "storage")]
    command += ["--listen", listen, *(token_file(folder) if security is None else security), *map(str, arguments)]
    with errors.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, **(environment or {})},
        )
    running = Coordinator(process)
    try:
        yield running
    finally:
        process.kill()
        process.wait()
        running._reader.join(GIVE_UP_S)
        process.stdout.close()


def errors_of(folder):
    return (folder / "errors.log").read_text()


class Workers:
    """Rehearsal workers on a loop of their own, in a thread; they outlive any coordinator."""

    def __init__(self, workers):
        self.workers = workers
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._running = [asyncio.run_coroutine_threadsafe(worker.run(), self._loop) for worker in workers]

    def join(self, timeout_s=GIVE_UP_S):
        """Why the job is over, in the words that each worker heard."""
        return [running.result(timeout_s) for running in self._running]

    def do(self, coroutine, timeout_s=GIVE_UP_S):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_s)

    def stop(self):
        async def cancel():
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.do(cancel())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(GIVE_UP_S)
        self._loop.close()


@contextmanager
def workers(address, count=3, kinds=None, pool="p"):
    """One worker a client; `kinds` names another class for some of them."""
    made = [
        (kinds or {}).get(index, RehearsalWorker)(address, TOKEN, pool, [index], Drift(WEIGHTS), f"worker-{index}")
        for index in range(count)
    ]
    running = Workers(made)
    try:
        yield running
    finally:
        running.stop()


def commits_in(storage):
    return [unseal(path.read_bytes(), RoundCommit) for path in sorted((Path(storage) / "rounds").glob("*.json"))]


def final_model(storage):
    return read_model(Path(storage) / "final.safetensors").values


def free_address():
    """A port on loopback that nobody has at the moment: for coordinators that follow one another."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def run_in_turn(folder, job, places=(0,), may_warn=lambda number, code: False):  # noqa: ARG005
    """Coordinators one after the other on one storage, each killed at its place; their exit codes.

    Three workers outlive them all, and train nothing twice. Who may warn is said by the coordinator's number and code.
    """
    address, codes = free_address(), []
    with workers(address) as three:
        for number, place in enumerate(places):
            with coordinator(folder, job, address, (MORTAL, place, folder / f"places.{number}")) as running:
                codes.append(running.wait(60))
            assert may_warn(number, codes[-1]) or not running.of("warning")
        three.join()
        assert {count for worker in three.workers for count in worker.trainings.values()} == {1}
    return codes
