"""SLURM by its command line, here on a login node or through ssh: runs `squeue.py`'s programs, and nothing else.

A program goes to the standard input of a shell; so it needs quoting once, and neither this machine's nor the login
node's list of processes shows more than `sh`, and sbatch's options. A host whose key isn't known is never talked to.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from muster_slurm.errors import Unreachable
from muster_slurm.plan import Listing
from muster_slurm.request import Request
from muster_slurm.squeue import (
    LIMITS,
    LIST,
    cancel_program,
    error_of,
    parse_listing,
    parse_max_array,
    parse_submitted,
    submit_program,
)
from muster_spec.pool_types import Ssh

TIMEOUT_S = 60.0


class Commands:
    """A transport: see transport.py."""

    def __init__(self, shell: Sequence[str], timeout_s: float = TIMEOUT_S) -> None:
        self.shell = (*shell,)
        self._timeout_s = timeout_s

    def submit(self, request: Request) -> int:
        return parse_submitted(self._say("sbatch", submit_program(request)))

    def list_jobs(self, prefix: str) -> Listing:
        began_at = time.time()
        with tempfile.TemporaryFile("w+") as answer:
            self._run("squeue", LIST, answer.fileno())
            answer.seek(0)
            return Listing(began_at, tuple(parse_listing(answer, prefix)))

    def cancel(self, job: int) -> None:
        self._say("scancel", cancel_program(job))

    def max_array(self) -> int:
        return parse_max_array(self._say("scontrol", LIMITS))

    def _say(self, what: str, program: str) -> str:
        return self._run(what, program, subprocess.PIPE)

    def _run(self, what: str, program: str, answer: int) -> str:
        try:
            result = subprocess.run(  # noqa: S603 - sh, or ssh with what the manifest says
                self.shell,
                input=program,
                stdout=answer,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                timeout=self._timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Unreachable(f"{what}: no answer within {self._timeout_s:.0f} s") from error
        except OSError as error:
            raise Unreachable(f"{what}: {self.shell[0]}: {error.strerror}") from error
        if result.returncode:
            raise error_of(what, result.stderr, result.returncode)
        return result.stdout or ""


def local_shell() -> Sequence[str]:
    """On the login node itself."""
    return ("sh",)


def ssh_shell(ssh: Ssh, key: Path, known_hosts: Path, more: Sequence[str] = ()) -> Iterable[str]:
    """On a login node: never asks anybody anything, and never learns a host's key. `more` are options of ssh."""
    settings = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "IdentityFile": str(key),
        "ConnectTimeout": "10",
        "ServerAliveInterval": "10",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    return (
        "ssh",
        "-F",
        "none",
        "-T",
        *options,
        *more,
        "-p",
        str(ssh.port),
        "-l",
        ssh.user,
        ssh.host,
        "sh -l",
    )  # a login shell: sites put SLURM on its PATH
