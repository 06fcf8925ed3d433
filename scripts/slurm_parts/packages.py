"""The programs: Debian's packages, without the services that they would start."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from slurm_parts.errors import SlurmError, UnavailableError

_PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client", "slurmrestd", "slurm-wlm-jwt-plugin")
_PROGRAMS = ("munged", "slurmctld", "slurmd", "slurmrestd", "sbatch", "scontrol")
_POLICY = Path("/usr/sbin/policy-rc.d")  # invoke-rc.d asks it: exit code 101 starts no service
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def find(program: str) -> str:
    """Where a program is. Raises UnavailableError."""
    path = shutil.which(program, path=_PATH)
    if path is None:
        raise UnavailableError(f"There is no {program} on this machine; as root: scripts/slurm packages")
    return path


def check() -> None:
    """Raises UnavailableError unless SLURM can be brought up here."""
    for program in _PROGRAMS:
        find(program)
    if os.geteuid() != 0:
        raise UnavailableError("SLURM's daemons start jobs as other users, so this needs root.")


def install() -> None:
    """Install what is missing. Raises SlurmError."""
    if all(shutil.which(program, path=_PATH) for program in _PROGRAMS):
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise UnavailableError("SLURM is missing, and there is no apt-get to install it with as root.")
    is_mine = not _POLICY.exists()
    if is_mine:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        _run("apt-get", "-qq", "update")
        _run("apt-get", "-qq", "install", "--no-install-recommends", "--yes", *_PACKAGES)
    finally:
        if is_mine:
            _POLICY.unlink()


def _run(*command: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SlurmError(f"{' '.join(command)} failed:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
