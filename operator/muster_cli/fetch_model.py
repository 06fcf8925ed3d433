"""`muster fetch-model`: the trained model of a job in a cluster, as a file here, whole, checked against its digest."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from muster_cli.errors import BadInput, CommandError
from muster_cli.kubectl import Cluster, Kubectl, Object, read
from muster_cli.reader import READER, build_reader, folder_of
from muster_operator.build.common import COORDINATOR, child_name
from muster_operator.diagnosis import is_ready, trouble_of

# What runs in the reader. A file is asked for from an offset on, since connections through API servers get cut.
_OPEN = """
import hashlib, json, shutil, sys
def opened(place):
    if "://" not in place:
        return open(place, "rb")
    import fsspec
    return fsspec.open(place, "rb").open()
"""
_DESCRIBE = f"""{_OPEN}
found = None
try:
    with opened(sys.argv[1]) as file:
        digest, size = hashlib.sha256(), 0
        while piece := file.read(1 << 20):
            digest.update(piece)
            size += len(piece)
    found = dict(size=size, sha256=digest.hexdigest())
except FileNotFoundError:
    pass
print(json.dumps(found))
"""
_SEND = f"""{_OPEN}
with opened(sys.argv[1]) as file:
    file.seek(int(sys.argv[2]))
    shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)
"""
_STALLS = 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file in the reader."""

    path: str
    size: int
    sha256: str


@click.command("fetch-model")
@click.argument("job")
@click.option("-n", "--namespace", help="The job's namespace. [default: kubectl's]")
@click.option("--context", help="The cluster, as kubectl calls it. [default: kubectl's]")
@click.option("--best", is_flag=True, help="The model with the best evaluation, not the last one.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Where to put it. [default: JOB.safetensors]"
)
@click.option(
    "--timeout", type=click.IntRange(min=1), default=120, show_default=True, help="Seconds until the reader runs."
)
def fetch_model(
    job: str, namespace: str | None, context: str | None, best: bool, out: Path | None, timeout: int
) -> None:
    """Fetch the model of a job that has run in a cluster.

    A pod reads it from the job's checkpoint and is removed afterwards. You need to be allowed to create Jobs in the
    job's namespace, and to exec into their pods.
    """
    chosen = (("--namespace", namespace), ("--context", context))
    cluster = Kubectl(tuple(part for option, value in chosen if value for part in (option, value)))
    target = out or Path(f"{job}.safetensors")
    wanted = fetch(cluster, job, "best" if best else "final", target, timeout)
    click.echo(f"{target}: {wanted.size} bytes, sha256 {wanted.sha256}")


def fetch(cluster: Cluster, name: str, which: str, target: Path, timeout_s: float) -> Wanted:
    """Bring the job's model here. Raises CommandError where that can't be done, and then leaves nothing behind."""
    if not target.parent.is_dir():
        raise BadInput(f"--out {target}: there is no folder {target.parent}")
    job = read(cluster, f"fedjob/{name}")
    coordinator = read(cluster, f"job/{child_name(name, COORDINATOR)}")
    aside = target.with_name(f".{target.name}.part")
    with reader(cluster, job, coordinator, timeout_s) as pod:
        try:
            wanted = _describe(cluster, pod, job, which)
            _copy(cluster, pod, wanted, aside)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
    return wanted


@contextmanager
def reader(cluster: Cluster, job: Object, coordinator: Object, timeout_s: float) -> Iterator[str]:
    """A pod that sees the job's checkpoint: its name. It is removed in the end."""
    made = json.loads(cluster.tell("create", "-f", "-", "-o", "json", manifest=build_reader(job, coordinator)))
    name = made["metadata"]["name"]
    try:
        yield _wait_for_pod(cluster, name, timeout_s)
    finally:
        cluster.tell("delete", f"job/{name}", "--wait=false", "--ignore-not-found")


def _wait_for_pod(cluster: Cluster, reader_job: str, timeout_s: float) -> str:
    deadline = time.monotonic() + timeout_s
    why = "its pod hasn't been made"
    while time.monotonic() < deadline:
        for pod in read(cluster, "pods", "-l", f"batch.kubernetes.io/job-name={reader_job}")["items"]:
            if is_ready(pod):
                return str(pod["metadata"]["name"])
            trouble = trouble_of(pod)
            why = trouble.message if trouble else f"pod {pod['metadata']['name']} is still starting"
        time.sleep(0.5)
    raise CommandError(f"the reader didn't run within {timeout_s:.0f} s (--timeout): {why}")


def _describe(cluster: Cluster, pod: str, job: Object, which: str) -> Wanted:
    path = f"{folder_of(job)}/{which}.safetensors"
    found = json.loads(cluster.tell("exec", pod, "-c", READER, "--", "python", "-c", _DESCRIBE, path))
    if found is None:
        phase = job.get("status", {}).get("phase", "new")
        told = "no evaluation has chosen one" if which == "best" else "it is there once all rounds are done"
        raise CommandError(f"fedjob {job['metadata']['name']} ({phase}) has no {which} model: {told}")
    return Wanted(path, found["size"], found["sha256"])


def _copy(cluster: Cluster, pod: str, wanted: Wanted, aside: Path) -> None:
    """Go on where the last connection was cut, as long as each brings something."""
    digest, size, stalls = hashlib.sha256(), 0, 0
    with aside.open("wb") as file:
        while size < wanted.size and stalls < _STALLS:
            before = size
            command = ("exec", pod, "-c", READER, "--", "python", "-c", _SEND, wanted.path, str(size))
            for piece in cluster.stream(*command):
                file.write(piece)
                digest.update(piece)
                size += len(piece)
            stalls = 0 if size > before else stalls + 1
    if (size, digest.hexdigest()) != (wanted.size, wanted.sha256):
        raise CommandError(f"only {size} of {wanted.size} bytes came, or not those that are stored: try again")
