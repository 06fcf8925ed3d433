"""Starts the `muster` command as a user would, listens to it, and finds its processes."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path

import psutil

TASKS = Path(__file__).parent / "integration" / "tasks"
GIVE_UP_S = 180


def write_job(folder, **config):
    """A job of four clients in two pools whose rounds take a moment."""
    path = folder / "job.yaml"
    path.write_text(
        textwrap.dedent(f"""
        apiVersion: muster.dev/v1alpha1
        kind: FederatedJob
        metadata: {{name: small}}
        spec:
          task:
            entrypoint: small:Small
            source: {{type: Path, path: {{path: {json.dumps(str(TASKS))}}}}}
            config: {json.dumps(config)}
          pools:
            - {{name: a, inline: {{type: Kubernetes, clients: 2}}}}
            - {{name: b, inline: {{type: External, clients: 2, trusted: true}}}}
          rounds: {{total: 4, deadlineSeconds: 20}}
          local: {{epochs: 1, batchSize: 16, learningRate: 0.1}}
        """)
    )
    return path


def muster(*arguments, cwd, **environment):
    """Run a command to its end."""
    command = [sys.executable, "-m", "muster_cli.main", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


class Running:
    """A `muster run --json` under way."""

    def __init__(self, process):
        self.process = process
        self.events = []

    def until(self, wanted, after=0):
        """The first event, from the given place on, for which `wanted` is true."""
        deadline = time.monotonic() + GIVE_UP_S
        place = after
        while time.monotonic() < deadline:
            while place < len(self.events):
                if wanted(self.events[place]):
                    return self.events[place]
                place += 1
            line = self.process.stdout.readline()
            if not line:
                break
            self.events.append(json.loads(line))
        raise AssertionError(f"never came; the last events were {self.events[-5:]}; {self.process.poll()}")

    def committed(self, number, after=0):
        return self.until(lambda event: event["event"] == "committed" and event["round"] >= number, after)

    def finish(self):
        """Its exit code, its closing event and what it said to people."""
        out, err = self.process.communicate(timeout=GIVE_UP_S)
        self.events += [json.loads(line) for line in out.splitlines()]
        return self.process.returncode, self.events[-1], err

    def rounds(self):
        return [event["round"] for event in self.events if event["event"] == "committed"]

    def processes(self):
        return psutil.Process(self.process.pid).children(recursive=True)

    def coordinator(self):
        return next(p for p in self.processes() if "muster_coordinator" in p.cmdline())

    def nursery(self):
        return next(p for p in psutil.Process(self.process.pid).children() if "muster_cli.nursery" in p.cmdline())

    def workers(self):
        return self.nursery().children()


@contextmanager
def running(*arguments, cwd):
    """A run that leaves nothing behind, whatever the test does."""
    command = [sys.executable, "-m", "muster_cli.main", "run", "--json", *map(str, arguments)]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Running(process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)


def gone(processes, timeout=5):
    """Whether these processes end in time. One that only waits to be reaped by whoever inherited it has ended."""
    deadline = time.monotonic() + timeout
    while any(map(_is_alive, processes)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _is_alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
