"""How the operator bears a thousand jobs: its memory, how soon it acts, a burst of jobs, and the API calls of a life.

Against a real API server and real controllers (scripts/cluster), which share the machine with it. There is no kubelet:
pods stay Pending, and where a life needs them to run and end, this script writes their status. `make bench` calls it
`operator`: a file operator.py in this folder would hide the standard library's from every benchmark.

    benchmarks/operator_scale.py [--jobs 1000] [--pools 100] [--changes 100]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from muster_operator.api import Api
from muster_operator.connection import find_connection
from muster_operator.objects import SELECTOR, Key, dig

ROOT = Path(__file__).resolve().parents[1]
CLUSTER = ROOT / "scripts" / "cluster"
CANNOT, SKIPPED = 3, 77
NAMESPACE = "muster-benchmark"
BURST = 100
MEMORY_LIMIT_MB, ACT_LIMIT_S, BURST_LIMIT_S = 300.0, 1.0, 30.0
Object = dict[str, Any]


@dataclass
class Lab:
    """The namespace, its operator, and what that one has asked for."""

    api: Api
    folder: Path
    operator: subprocess.Popen[bytes]

    @property
    def log(self) -> Path:
        return self.folder / "requests"

    def start(self) -> None:
        """An operator, in the place of the one that was stopped."""
        self.operator = start_operator(self.folder)

    def stop(self) -> None:
        """As a kubelet does."""
        self.operator.send_signal(signal.SIGTERM)
        self.operator.wait(30)

    def requests(self) -> list[tuple[float, str, str]]:
        """Each request so far, but for those about its own lease."""
        lines = (line.split() for line in self.log.read_text().splitlines())
        return [(float(at), method, path) for at, method, path in lines if "/leases" not in path]

    def memory_mb(self) -> float:
        """Resident now."""
        return float(psutil.Process(self.operator.pid).memory_info().rss / 1e6)


def pool(number: int) -> Object:
    """A ClientPool of one client."""
    return _object("ClientPool", f"pool-{number}", {"type": "Kubernetes", "clients": 1})


def job(name: str, pools: int) -> Object:
    """A FederatedJob with one of that many pools."""
    number = int(name.rpartition("-")[2]) % pools
    spec = {"task": {"entrypoint": "a:B"}, "pools": [{"name": f"pool-{number}"}], "rounds": {"total": 3}}
    return _object("FederatedJob", name, spec)


def _object(kind: str, name: str, spec: Object) -> Object:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "muster.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


async def create(api: Api, objects: list[Object]) -> None:
    """All of them, a few at a time: one that waits for a connection runs out of time like any other."""
    free = asyncio.Semaphore(12)

    async def one(manifest: Object) -> None:
        async with free:
            await api.create(manifest)

    await asyncio.gather(*(one(manifest) for manifest in objects))


async def until(is_so: Callable[[], Awaitable[bool]], what: str, within_s: float, every_s: float = 0.5) -> None:
    """Ask again and again. Raises TimeoutError."""
    deadline = time.monotonic() + within_s
    while not await is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s:.0f} s: {what}")
        await asyncio.sleep(every_s)


# --- what is measured -------------------------------------------------------------------------------------------------


async def burst(lab: Lab, pools: int) -> float:
    """Seconds from the first of a hundred jobs until the last child of the last one is there."""
    begun = time.monotonic()
    await create(lab.api, [job(f"job-{number}", pools) for number in range(BURST)])
    await complete(lab, BURST, 600)
    return time.monotonic() - begun


async def complete(lab: Lab, jobs: int, within_s: float) -> None:
    """Until each job has its two Jobs, which come last, and all of it has come to rest."""

    async def have_all() -> bool:
        return len(await lab.api.list("Job", NAMESPACE, SELECTOR)) == 2 * jobs

    await until(have_all, f"{jobs} jobs have their children", within_s)


async def rest(lab: Lab, quiet_s: float = 5.0) -> None:
    """Until the operator has asked for nothing for a while."""

    async def is_quiet() -> bool:
        found = lab.requests()
        return bool(found) and time.monotonic() - found[-1][0] > quiet_s

    await until(is_quiet, "the operator has come to rest", 600)


async def reaction_times(lab: Lab, changes: int) -> list[float]:
    """Seconds from a change of one job to the first request that the operator makes for it, one after another."""
    times = []
    for number in range(changes):
        name = f"job-{number % BURST}"
        live = await lab.api.get("FederatedJob", NAMESPACE, name)
        body = {"spec": {"suspend": number < BURST}}
        seen, begun = len(lab.requests()), time.monotonic()
        await lab.api.patch(Key("FederatedJob", name), NAMESPACE, live["metadata"]["uid"], body)

        async def has_acted(name: str = name, seen: int = seen) -> bool:
            return any(f"/{name}-" in path or f"/{name}/" in path for _, _, path in lab.requests()[seen:])

        await until(has_acted, f"{name} is acted on", 60, every_s=0.02)
        acted = next(at for at, _, path in lab.requests()[seen:] if f"/{name}-" in path or f"/{name}/" in path)
        times.append(max(0.0, acted - begun))
    return times


async def restart(lab: Lab) -> float:
    """Seconds from the start of another operator until it acts on what was changed while there was none."""
    lab.stop()
    seen, name = len(lab.requests()), "job-0"
    live = await lab.api.get("FederatedJob", NAMESPACE, name)
    body = {"spec": {"suspend": not dig(live, "spec", "suspend")}}
    await lab.api.patch(Key("FederatedJob", name), NAMESPACE, live["metadata"]["uid"], body)
    begun = time.monotonic()
    lab.start()

    async def has_acted() -> bool:
        return any(f"/{name}-" in path or f"/{name}/" in path for _, _, path in lab.requests()[seen:])

    await until(has_acted, f"{name} is acted on", 600, every_s=0.1)
    return time.monotonic() - begun


async def life(lab: Lab) -> Counter[str]:
    """The requests of one job, from its creation to its deletion: it runs, completes, and is removed."""
    before = len(lab.requests())
    await lab.api.create(job("life-0", 1))
    for component in ("coordinator", "worker"):
        await _pod_status(lab.api, component, {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
    await rest(lab)
    ended = {"exitCode": 0, "reason": "Completed", "message": '{"event":"finished","message":"done"}'}
    status = {"name": "coordinator", "image": "", "imageID": "", "ready": False, "restartCount": 0}
    containers = [status | {"state": {"terminated": ended}}]
    await _pod_status(lab.api, "coordinator", {"phase": "Succeeded", "conditions": [], "containerStatuses": containers})
    await until(lambda: _is_complete(lab.api), "the job is complete", 60)
    await rest(lab)
    live = await lab.api.get("FederatedJob", NAMESPACE, "life-0")
    await lab.api.delete(Key("FederatedJob", "life-0"), NAMESPACE, live["metadata"]["uid"])
    await rest(lab)
    return Counter(_what(method, path) for _, method, path in lab.requests()[before:])


def _what(method: str, path: str) -> str:
    """``PATCH /apis/muster.dev/v1alpha1/namespaces/lab/federatedjobs/one/status`` → ``PATCH federatedjobs/status``."""
    parts = path.partition("/namespaces/")[2].split("/")
    return f"{method} {'/'.join([parts[1], *parts[3:]])}"


async def _is_complete(api: Api) -> bool:
    return dig(await api.get("FederatedJob", NAMESPACE, "life-0"), "status", "phase") == "Complete"


async def _pod_status(api: Api, component: str, status: Object) -> None:
    """As a kubelet would."""
    selector = f"muster.dev/job=life-0,app.kubernetes.io/component={component}"

    async def is_there() -> bool:
        return bool(await api.list("Pod", NAMESPACE, selector))

    await until(is_there, f"there is a {component}", 60)
    for pod in await api.list("Pod", NAMESPACE, selector):
        kubectl(
            "patch",
            f"pod/{pod['metadata']['name']}",
            "--subresource=status",
            "--type=merge",
            "-p",
            json.dumps({"status": status}),
        )


# --- around it --------------------------------------------------------------------------------------------------------


def kubectl(*arguments: str) -> None:
    """kubectl in the benchmark's namespace, which has to succeed."""
    subprocess.run(["kubectl", "-n", NAMESPACE, *arguments], check=True, stdout=subprocess.DEVNULL)


@asynccontextmanager
async def laboratory(folder: Path) -> AsyncIterator[Lab]:
    """The operator in its namespace, and a connection of our own."""
    (folder / "requests").touch()
    lab = Lab(Api(find_connection(os.environ)), folder, start_operator(folder))
    try:
        yield lab
    except TimeoutError:
        print((folder / "operator.log").read_text()[-4000:], file=sys.stderr)
        raise
    finally:
        await lab.api.close()
        lab.stop()


def start_operator(folder: Path) -> subprocess.Popen[bytes]:
    """A process of its own."""
    command = [sys.executable, ROOT / "benchmarks" / "operators" / "counted.py", NAMESPACE, folder / "requests"]
    with (folder / "operator.log").open("ab") as out:
        return subprocess.Popen(command, stderr=out)


async def measure(given: argparse.Namespace, folder: Path) -> Object:
    """All figures, each on top of the one before."""
    async with laboratory(folder) as lab:
        await create(lab.api, [pool(number) for number in range(given.pools)])
        await rest(lab)
        calls = await life(lab)
        print(f"calls of one job's life: {json.dumps(dict(sorted(calls.items())))}", flush=True)
        burst_s = await burst(lab, given.pools)
        await rest(lab)
        print(
            f"{BURST} jobs at once had all children after {burst_s:.1f} s; memory {lab.memory_mb():.0f} MB", flush=True
        )
        await create(lab.api, [job(f"job-{number}", given.pools) for number in range(BURST, given.jobs)])
        await complete(lab, given.jobs, 3600)
        await rest(lab)
        memory_mb = lab.memory_mb()
        print(f"{given.jobs} jobs at rest: {memory_mb:.0f} MB", flush=True)
        times = await reaction_times(lab, given.changes)
        quantiles = statistics.quantiles(times, n=100)
        await rest(lab)
        restart_s = await restart(lab)
    return {
        "benchmark": "operator",
        "jobs": given.jobs,
        "pools": given.pools,
        f"memory_mb_{given.jobs}": round(memory_mb, 1),
        "memory_mb_limit": MEMORY_LIMIT_MB,
        "act_p50_s": round(statistics.median(times), 3),
        "act_p99_s": round(quantiles[98], 3),
        "act_s_limit": ACT_LIMIT_S,
        "burst_100_s": round(burst_s, 1),
        "burst_s_limit": BURST_LIMIT_S,
        f"restart_s_{given.jobs}": round(restart_s, 1),
        "calls_per_job": sum(calls.values()),
        "machine": f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
    }


def main() -> int:
    """Everything, on a control plane of its own; 1 when a limit is broken, 77 where there can be none."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--pools", type=int, default=100)
    parser.add_argument("--changes", type=int, default=100)
    given = parser.parse_args()
    os.environ.pop("KUBECONFIG", None)
    name = f"benchmark-{os.getpid()}"
    up = subprocess.run([CLUSTER, "--name", name, "up", "--owner", str(os.getpid())], check=False)
    if up.returncode:
        return SKIPPED if up.returncode == CANNOT else 1
    try:
        shown = subprocess.run(
            ["sh", "-c", f'eval "$("{CLUSTER}" --name {name} env)" && env -0'],
            capture_output=True,
            text=True,
            check=True,
        )
        os.environ.update(entry.split("=", 1) for entry in shown.stdout.split("\0") if entry)
        kubectl("create", "namespace", NAMESPACE)
        kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        while subprocess.run(["kubectl", "get", "fedjobs,clientpools"], capture_output=True, check=False).returncode:
            time.sleep(0.2)
        with tempfile.TemporaryDirectory() as folder:
            result = asyncio.run(measure(given, Path(folder)))
    finally:
        subprocess.run([CLUSTER, "--name", name, "down"], check=False)
    print(json.dumps(result))
    is_good = result[f"memory_mb_{given.jobs}"] < MEMORY_LIMIT_MB and result["act_p99_s"] < ACT_LIMIT_S
    return 0 if is_good and result["burst_100_s"] < BURST_LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
