"""What a pool of 500 clients asks of a site with 100,000 other jobs: calls a minute and the bridge's memory.

A real bridge process against a stub of slurmrestd (slurms/stub.py), whose records are real ones; first a pool of a
tenth of the clients at a site that is empty, then all of them there, then among the 100,000. The last line is one JSON
object: `calls_per_minute` and `memory_mb` (the most that was resident, with a limit of 150) of the last, and as ratios
how many more calls there are with all the clients (`calls_ratio`), among foreign jobs (`foreign_ratio`: fewer, since
a listing may take a tenth of the time); `later_calls` are those more in the second half of the time, where at most two
are chance.

    benchmarks/slurm_scale.py [--clients 500] [--foreign 100000] [--seconds 120] [--version 42]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from muster_spec.loading import load
from muster_spec.resolving import resolve
from muster_wire.trust.authority import make_authority
from muster_wire.trust.bundle import make_bundle
from muster_wire.trust.identity import Role, name_identity
from slurms.stub import VERSIONS, Stub, serving

SKIPPED = 77
MEMORY_LIMIT_MB = 150.0
RATIO_LIMIT = 1.2
LATER_LIMIT = 2
GIVE_UP_S = 600.0
MANIFEST = """
apiVersion: muster.dev/v1alpha1
kind: FederatedJob
metadata: {{name: scale}}
spec:
  task: {{entrypoint: "muster.tasks.digits:Digits"}}
  pools:
  - name: hpc
    inline:
      type: Slurm
      clients: {clients}
      slurm: {{url: "{url}", auth: {{user: fl, tokenSecret: {{name: site, key: token}}}}}}
"""


@dataclass(frozen=True)
class Measured:
    """One site's: calls a minute once everything runs, in both halves of the time; the most memory of the bridge."""

    first_half: int
    second_half: int
    seconds: float
    memory_mb: float

    @property
    def calls_per_minute(self) -> float:
        return 60 * (self.first_half + self.second_half) / self.seconds


def main() -> int:
    """Measure both, and say whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--foreign", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--version", type=int, choices=VERSIONS, default=VERSIONS[-1], help="of the API: v0.0.…")
    given = parser.parse_args()
    if sys.platform != "linux":
        print("peak memory is read as Linux tells it", file=sys.stderr)
        return SKIPPED
    few, many, large = (
        measure(clients, Stub(foreign, given.version), given.seconds)
        for clients, foreign in ((given.clients // 10, 0), (given.clients, 0), (given.clients, given.foreign))
    )
    ratios = {
        "calls_ratio": many.calls_per_minute / few.calls_per_minute,
        "foreign_ratio": large.calls_per_minute / few.calls_per_minute,
    }
    later = max(each.second_half - each.first_half for each in (few, many, large))
    result = {
        "benchmark": "slurm_scale",
        "clients": given.clients,
        "foreign_jobs": given.foreign,
        "calls_per_minute": round(large.calls_per_minute, 2),
        "memory_mb": round(large.memory_mb, 1),
        "calls_per_minute_small": round(few.calls_per_minute, 2),
        "memory_mb_small": round(few.memory_mb, 1),
        **{name: round(ratio, 3) for name, ratio in ratios.items()},
        "later_calls": later,
    }
    print(json.dumps(result))
    # Polls come at random times, so a few more may fit in.
    return int(large.memory_mb > MEMORY_LIMIT_MB or max(ratios.values()) > RATIO_LIMIT or later > LATER_LIMIT)


def measure(clients: int, stub: Stub, seconds: float) -> Measured:
    """Let a bridge submit its pool, and count what it asks while nothing happens."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(stub) as url,
        started(Path(folder), url, clients) as bridge,
    ):
        wait_for_listings(stub, 2, bridge)  # one that is empty of ours, and one that has them all
        began = time.monotonic()
        halves = [calls_within(seconds / 2, stub, bridge) for _ in range(2)]
        took_s = time.monotonic() - began
        memory_mb = peak_mb(bridge.pid)
        bridge.kill()  # its SLURM is none, so nothing is left behind
    return Measured(*halves, took_s, memory_mb)


def calls_within(seconds: float, stub: Stub, bridge: subprocess.Popen[bytes]) -> int:
    """How many there are from now on."""
    before, began = len(stub.calls), time.monotonic()
    wait_until(lambda: time.monotonic() > began + seconds, bridge)
    return len(stub.calls) - before


def started(folder: Path, url: str, clients: int) -> subprocess.Popen[bytes]:
    """A bridge of a pool of so many clients; nobody coordinates them."""
    (folder / "job.yaml").write_text(MANIFEST.format(clients=clients, url=url))
    job = msgspec.structs.replace(resolve(load([folder / "job.yaml"])), uid=str(uuid.uuid4()))
    (folder / "job.json").write_bytes(msgspec.json.encode(job))
    (folder / "secrets" / "site").mkdir(parents=True)
    (folder / "secrets" / "site" / "token").write_text("t0ken")
    now = time.time()
    authority = make_authority(job.uid, now)
    for name, role in (("join", Role.JOINER), ("attend", Role.BRIDGE)):
        bundle = make_bundle(authority, "127.0.0.1:1", name_identity(role, job.uid, "hpc"), now, 86_400.0)
        (folder / name).write_text(bundle.to_json())
    command = [sys.executable, "-m", "muster_slurm", "--alone", "--pool", "hpc", "--job", str(folder / "job.json")]
    for option in ("ledger", "join", "attend", "secrets"):
        command += [f"--{option}", str(folder / option)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ)


def wait_for_listings(stub: Stub, more: int, bridge: subprocess.Popen[bytes]) -> None:
    """Until the bridge has looked so many times again."""
    wanted = listings(stub) + more
    wait_until(lambda: listings(stub) >= wanted, bridge)


def listings(stub: Stub) -> int:
    """How often it was asked for all jobs."""
    return sum(call.endswith("/jobs") for call in stub.calls)


def wait_until(is_so: Callable[[], bool], bridge: subprocess.Popen[bytes]) -> None:
    """Raises RuntimeError for a bridge that has ended, or that takes too long."""
    deadline = time.monotonic() + GIVE_UP_S
    while not is_so():
        if bridge.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the bridge has ended ({bridge.returncode}), or does not get there")
        time.sleep(0.2)


def peak_mb(pid: int) -> float:
    """The most that a process has had in memory."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1000


if __name__ == "__main__":
    sys.exit(main())
