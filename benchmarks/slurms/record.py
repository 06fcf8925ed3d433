"""Records what a real slurmrestd answers, for the stub beside this file: a file for each version, in recorded/.

It brings up a private SLURM (scripts/slurm) of this machine's release, or of the one that `--release` names, submits an
array as the bridge does, and keeps the answers, and the record of its one task while that runs. What names this machine
is replaced. As root, after `scripts/slurm packages` and `scripts/slurm --release trixie packages`:

    benchmarks/slurms/record.py && benchmarks/slurms/record.py --release trixie
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from muster_slurm.openapi import SPOKEN, submission
from muster_slurm.request import Options, Request

ROOT = Path(__file__).resolve().parents[2]
RECORDED = Path(__file__).parent / "recorded"
NAME = "recording"
COMMENT = "muster/0a1b2c3d/hpc/0/1/0"
PATIENCE_S = 60.0


def main() -> int:
    """Record every version that this SLURM and we speak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", help="of Debian, whose SLURM it is to be; this machine's where it isn't given")
    given = parser.parse_args()
    release = ["--release", given.release] if given.release else []
    slurm(*release, "up", "--owner", str(os.getpid()))
    try:
        site = Site(address(), token())
        document = site.ask("GET", "/openapi/v3")
        for version in (
            each for each in SPOKEN if f"/slurm/v0.0.{each}/jobs" in str(document).replace("jobs/", "jobs")
        ):
            found = record(site, version)
            RECORDED.mkdir(exist_ok=True)
            (RECORDED / f"v0.0.{version}.json").write_text(anonymous(json.dumps(found, indent=1)) + "\n")
    finally:
        slurm("down")
    return 0


def slurm(*words: str) -> str:
    """What scripts/slurm says of the SLURM that is recorded."""
    command = [str(ROOT / "scripts" / "slurm"), "--name", NAME, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def address() -> str:
    """Where its slurmrestd is."""
    found = re.search(r"MUSTER_SLURM_URL=(\S+)", slurm("env"))
    return urlsplit(found[1].strip("'\";") if found else "").netloc


def token() -> str:
    """For root, on this machine."""
    return slurm("run", "scontrol", "token", "lifespan=600").strip().removeprefix("SLURM_JWT=")


class Site:
    """That slurmrestd, asked as it is."""

    def __init__(self, netloc: str, jwt: str) -> None:
        self._netloc = netloc
        self._headers = {"X-SLURM-USER-NAME": "root", "X-SLURM-USER-TOKEN": jwt, "Content-Type": "application/json"}

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._netloc, timeout=PATIENCE_S)
        connection.request(method, path, json.dumps(body) if body else None, self._headers)
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return answer


def record(site: Site, version: int) -> dict[str, Any]:
    """What it answers to a submission and to a listing; of the jobs in that, the one submitted."""
    start = f"/slurm/v0.0.{version}"
    options = Options(1, 1, 5, 60, True, "/", "/dev/null", cpus_per_task=1, memory_mb=100)
    script = "#!/bin/bash\nsleep 60\n"
    request = Request(COMMENT.replace("/", "-"), COMMENT, (0,), options, script, {"PATH": "/usr/bin:/bin"})
    submitted = site.ask("POST", f"{start}/job/submit", submission(request, version))
    deadline = time.monotonic() + PATIENCE_S
    while not (found := running(listing := site.ask("GET", f"{start}/jobs"), submitted["job_id"])):
        if time.monotonic() > deadline:
            raise TimeoutError(f"job {submitted['job_id']} does not run")
        time.sleep(0.5)
    site.ask("DELETE", f"{start}/job/{submitted['job_id']}")
    return {"submitted": submitted, "listing": listing | {"jobs": found}}


def running(listing: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """The record of this job, once it runs."""
    ours = [job for job in listing["jobs"] if number in (job["job_id"], job["array_job_id"])]
    return [job for job in ours if "RUNNING" in job["job_state"]]


def anonymous(text: str) -> str:
    """Without the names of this machine."""
    return text.replace(socket.gethostname(), "node1").replace(f"muster-{NAME}", "cluster")


if __name__ == "__main__":
    sys.exit(main())
