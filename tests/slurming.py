"""A private SLURM for tests, and a bridge over it whose workers are a script (tests/slurm/stage/muster)."""

import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil

from attending import to_nowhere
from muster_spec.loading import load
from muster_spec.resolving import resolve
from muster_spec.types import ResolvedJob

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "slurm"
STAGE = Path(__file__).parent / "slurm" / "stage"
CANNOT = 3  # the exit code of scripts/slurm for a machine without SLURM
GIVE_UP_S = 90
SECRET = "the-patients-secret"  # noqa: S105 -- of nobody


def has_no_python():
    """Whether jobs are in a root folder of another release, and this Python can't be shared with them."""
    return "MUSTER_SLURM_RELEASE" in os.environ and sys.base_prefix == "/usr"


@contextmanager
def found_by_commands(slurm):
    """What this process starts finds that SLURM, and its release of the commands."""
    before = {name: os.environ.get(name) for name in ("SLURM_CONF", "PATH")}
    os.environ.update({name: slurm.environment[name] for name in before})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def run_script(*arguments):
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False)


def environment_of(name):
    command = f'eval "$("{SCRIPT}" --name {name} env)" && env -0'
    output = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    return dict(entry.split("=", 1) for entry in output.split("\0") if entry)


class Slurm:
    """The SLURM that is up."""

    def __init__(self, name, environment):
        self.name = name
        self.environment = environment
        self.url = environment["MUSTER_SLURM_URL"]
        self.folder = Path(environment["SLURM_CONF"]).parent

    def use_commands_of_its_own(self, folder):
        """The commands of this machine may be of another release: put those of this SLURM before them."""
        tool = f"PYTHONPATH={SCRIPT.parent} exec {sys.executable} -m slurm_parts"
        for command in ("sbatch", "squeue", "scancel", "scontrol", "sinfo"):
            (folder / command).write_text(f'#!/bin/sh\n{tool} --name {self.name} run {command} "$@"\n')
            (folder / command).chmod(0o755)
        self.environment["PATH"] = f"{folder}:{self.environment['PATH']}"

    def tell(self, *command, check=True):
        result = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        assert not check or result.returncode == 0, f"{command}: {result.stderr}"
        return result.stdout.strip()

    def repair(self):
        """Start again what a test has killed."""
        result = run_script("--name", self.name, "up")
        assert result.returncode == 0, result.stderr

    def kill(self, daemon, number=signal.SIGKILL):
        """One of slurmctld, slurmrestd, n1 … n4."""
        state = json.loads((self.folder / "state.json").read_text())
        process = psutil.Process(state["processes"][daemon]["pid"])
        process.send_signal(number)
        wait_until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)

    def is_away(self):
        """Whether slurmctld answers nobody."""
        return "DOWN" in self.tell("scontrol", "ping", check=False)

    def token(self, lifespan_s=3600):
        return self.tell("scontrol", "token", f"lifespan={lifespan_s}").removeprefix("SLURM_JWT=")

    def jobs(self, *states):
        """id, array task, state, restarts, node and comment of each task."""
        words = ("--states=" + ",".join(states or ("all",)),)
        listed = self.tell(
            "squeue", "-h", "-r", *words, "-O", "JobID:|,ArrayTaskID:|,State:|,RestartCnt:|,NodeList:|,Comment:|"
        )
        return [tuple(part.strip() for part in line.split("|")[:6]) for line in listed.splitlines()]

    def queue(self):
        return self.tell("squeue", "-h")

    def preempt(self, tasks, nodes="n1,n2,n3,n4"):
        """These nodes for another job, for a second: so many of ours are put back. Ends when it is over."""
        where = ("-p", "high", "-N", str(len(nodes.split(","))), "-w", nodes, "--exclusive")
        other = self.tell("sbatch", "--parsable", *where, "-t", "1", "-o", "/dev/null", "--wrap", "sleep 1")
        self.until(lambda: [job[3] for job in self.jobs("pending")].count("1") == tasks)
        self.until(lambda: other not in self.tell("squeue", "-h", "-o", "%A").split())  # else it would preempt us again

    def start_now(self):
        """SLURM puts a requeued job two minutes off; tests have no time for that."""
        for job in self.jobs("pending"):
            self.tell("scontrol", "update", f"JobId={job[0]}", "StartTime=now", check=False)

    def until_started(self, is_so):
        """Let what was put back start, until that shows."""

        def has_started():
            self.start_now()
            return is_so()

        self.until(has_started)

    def until(self, is_so, within_s=GIVE_UP_S):
        wait_until(is_so, lambda: f"not so; SLURM has {self.tell('squeue', '--states=all', check=False)}", within_s)


@contextmanager
def own_slurm(name, *options, settings=("MinJobAge=15",)):
    """A SLURM that is called so, taken down afterwards; what scripts/slurm said instead, where there can't be one."""
    changes = [word for line in settings for word in ("--set", line)]
    brought_up = run_script("--name", name, *options, "up", "--owner", str(os.getpid()), *changes)
    if brought_up.returncode:
        yield brought_up
        return
    try:
        yield Slurm(name, environment_of(name))
    finally:
        assert run_script("--name", name, "down").returncode == 0


def wait_until(is_so, explain=lambda: "", within_s=GIVE_UP_S):
    deadline = time.monotonic() + within_s
    while not (found := is_so()):
        assert time.monotonic() < deadline, explain()
        time.sleep(0.1)
    return found


def manifest(folder, how, *, clients=2, time_limit="10m", more="", limit=3):
    """A job with one SLURM pool, whose workers are the stage's script."""
    (folder / "job.yaml").write_text(
        textwrap.dedent(f"""
        apiVersion: muster.dev/v1alpha1
        kind: FederatedJob
        metadata: {{name: staged}}
        spec:
          task: {{entrypoint: "muster.tasks.digits:Digits"}}
          runPolicy: {{backoffLimit: {limit}}}
          pools:
          - name: hpc
            inline:
              type: Slurm
              clients: {clients}
              slurm:
                {how}
                timeLimit: {time_limit}
                signalSeconds: 10
                workDir: {folder}
                preamble: export PATH={STAGE}:$PATH STAGE={folder}
                environment:
                - {{name: PATIENTS, secret: {{name: site, key: patients}}}}
                {more}
        """)
    )
    return folder / "job.yaml"


def by_rest(slurm, folder):
    write_secret(folder, "token", slurm.token())
    return f"url: {slurm.url}\n                auth: {{user: root, tokenSecret: {{name: site, key: token}}}}"


class NoSlurm:
    """The environment of a machine that needs none, as a stub answers for it."""

    environment = None


def by_stub(url, folder):
    write_secret(folder, "token", "t0ken")
    return f"url: {url}\n                auth: {{user: fl, tokenSecret: {{name: site, key: token}}}}"


def by_commands():
    return "command: {type: Local}"


def write_secret(folder, key, text):
    (folder / "secrets" / "site").mkdir(parents=True, exist_ok=True)
    (folder / "secrets" / "site" / key).write_text(text + "\n")


class Bridging:
    """A bridge under way."""

    def __init__(self, process):
        self.process = process
        self.events = []
        self._unread = b""

    def until(self, what, words="", within_s=GIVE_UP_S):
        """The first event of this kind whose message has these words in it."""
        deadline = time.monotonic() + within_s
        place = 0
        while time.monotonic() < deadline:
            for event in self.events[place:]:
                place += 1
                if event["what"] == what and words in event["message"]:
                    return event
            if not self._read(deadline - time.monotonic()):
                break
        raise AssertionError(f"no {what} with {words!r} in {self.events}; {self.process.poll()}")

    def _read(self, timeout_s):
        readable, _, _ = select.select([self.process.stdout], [], [], max(0.0, timeout_s))
        chunk = os.read(self.process.stdout.fileno(), 1 << 16) if readable else b""
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        self.events += [json.loads(line) for line in lines]
        return bool(chunk)

    def tell(self, **told):
        self.process.stdin.write(json.dumps(told).encode() + b"\n")
        self.process.stdin.flush()

    def close(self):
        """Say that whoever started it is gone; its exit code and what it said."""
        out, err = self.process.communicate(timeout=GIVE_UP_S)
        self.events += [json.loads(line) for line in out.splitlines()]
        return self.process.returncode, err.decode()

    def submissions(self):
        return [event for event in self.events if event["what"] == "submitted"]


def write_job(folder, job_file):
    """The resolved job, as bridges read it; the same one each time."""
    path = folder / "job.json"
    if not path.exists():
        job = msgspec.structs.replace(resolve(load([job_file])), uid=str(uuid.uuid4()))
        path.write_bytes(msgspec.json.encode(job))
    return msgspec.json.decode(path.read_bytes(), type=ResolvedJob)


@contextmanager
def bridging(slurm, folder, job_file, *options, poll_s=0.5, attend=None, join='{"a": "bundle"}'):
    """A bridge for the pool `hpc`, with its ledger in `folder`. `attend`: its bundle; None: there is no coordinator."""
    write_secret(folder, "patients", SECRET)
    write_job(folder, job_file)
    (folder / "join").write_text(join)
    (folder / "attend").write_text(attend or to_nowhere())
    command = [sys.executable, "-m", "muster_slurm", "--job", str(folder / "job.json"), "--pool", "hpc"]
    command += ["--ledger", str(folder / "ledger"), "--join", str(folder / "join"), "--poll", str(poll_s)]
    command += ["--attend", str(folder / "attend"), "--secrets", str(folder / "secrets"), *options]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=slurm.environment, **pipes) as process:
        try:
            yield Bridging(process)
        finally:
            if process.poll() is None:
                process.kill()


def said(folder, *words):
    """What the workers have noted, as words; only lines with all of `words`."""
    place = folder / "said"
    lines = [line.split() for line in place.read_text().splitlines()] if place.exists() else []
    return [line for line in lines if set(words) <= set(line)]


def let_end(folder, code=0):
    """The workers end with this code from now on."""
    (folder / "exit.new").write_text(str(code))
    (folder / "exit.new").rename(folder / "exit")
