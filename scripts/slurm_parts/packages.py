"""The programs: Debian's packages, without the services that they would start."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from slurm_parts.errors import SlurmError, UnavailableError

_PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client", "slurmrestd", "slurm-wlm-jwt-plugin")
_MPI = "openmpi-bin"
_PMIX = "libpmix-dev"  # has libpmix.so, by which name the plugin of 22.05 looks for it
_PROGRAMS = ("munged", "slurmctld", "slurmd", "slurmrestd", "sbatch", "scontrol")
_SSH = ("openssh-server",)  # for transports through ssh
_PYTHONS = ("libexpat1", "libffi8")  # what SLURM does not bring itself
_CONTENTS = "etc/muster-packages"
_POLICY = Path("/usr/sbin/policy-rc.d")  # invoke-rc.d asks it: exit code 101 starts no service
_SHARED = (Path("/dev"), Path("/proc"), Path("/sys"), Path("/run"), Path("/tmp"))  # noqa: S108 -- where jobs work
_HOSTS = "/etc/hosts"  # ranks and relays are met by this machine's name
_REPOSITORY = Path(__file__).resolve().parents[2]
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def find(program: str) -> str:
    """Where a program is. Raises UnavailableError."""
    path = shutil.which(program, path=_PATH)
    if path is None:
        raise UnavailableError(f"There is no {program} on this machine; as root: scripts/slurm packages")
    return path


def check(root: Path | None) -> None:
    """Raises UnavailableError unless SLURM can be brought up here."""
    if root is not None and not (root / "usr/sbin/slurmctld").exists():
        raise UnavailableError(f"There is no {root}; as root: scripts/slurm --release {root.name[6:]} packages")
    for program in _PROGRAMS if root is None else ():
        find(program)
    if os.geteuid() != 0:
        raise UnavailableError("SLURM's daemons start jobs as other users, so this needs root.")


def install(release: str | None, root: Path | None) -> None:
    """Install what is missing, for another release into a root folder of its own. Raises SlurmError."""
    if release is not None and root is not None:
        _install_release(release, root)
        return
    if all(shutil.which(program, path=_PATH) for program in (*_PROGRAMS, "mpirun", "sshd")) and _has_pmix():
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise UnavailableError("SLURM is missing, and there is no apt-get to install it with as root.")
    is_mine = not _POLICY.exists()
    if is_mine:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        _run("apt-get", "-qq", "update")
        _run("apt-get", "-qq", "install", "--no-install-recommends", "--yes", *_PACKAGES, _MPI, _PMIX, *_SSH)
    finally:
        if is_mine:
            _POLICY.unlink()


def _has_pmix() -> bool:
    return any(Path("/usr/lib").glob("*/pmix2/lib/libpmix.so"))


def _install_release(release: str, root: Path) -> None:
    """A root folder with SLURM, an MPI, and the libraries of this machine's Python."""
    wanted = ",".join((*_PACKAGES, _MPI, *_PYTHONS, "procps"))
    if root.exists() and _has(root) == wanted:
        return
    if shutil.which("debootstrap", path=_PATH) is None:
        _run("apt-get", "-qq", "update")
        _run("apt-get", "-qq", "install", "--no-install-recommends", "--yes", "debootstrap")
    aside = root.with_suffix(".new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.parent.mkdir(parents=True, exist_ok=True)
    _run("debootstrap", "--variant=minbase", f"--include={wanted}", release, str(aside))
    (aside / _CONTENTS).write_text(wanted)
    if root.exists():
        shutil.rmtree(root)
    aside.rename(root)


def _has(root: Path) -> str:
    """The packages that a root folder was made with."""
    contents = root / _CONTENTS
    return contents.read_text() if contents.exists() else ""


def python_places(prefixes: Sequence[str] = (sys.base_prefix, sys.prefix)) -> list[Path]:
    """Where this Python is, for jobs in a root folder to use it; nowhere where that is the system's, which they have
    another of.
    """
    places = [Path(prefix).resolve() for prefix in prefixes]
    return [] if any(place == Path("/usr") for place in places) else places


def inside(root: Path | None, argv: Sequence[str]) -> list[str]:
    """The command, as it is run in a root folder: with this machine's files where they are shared, in a mount namespace
    that ends with it. Its process id is that of the command.
    """
    if root is None:
        return [find(argv[0]), *argv[1:]]
    shared = " ".join(shlex.quote(str(path)) for path in (*_SHARED, _REPOSITORY, *python_places()))
    program = (
        f"for place in {shared}; do mkdir -p {root}$place; mount --rbind $place {root}$place; done; "
        f"touch {root}{_HOSTS}; mount --bind {_HOSTS} {root}{_HOSTS}; "
        f'exec {find("chroot")} {root} env PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"'
    )
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", program, "sh", *argv]


def _run(*command: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SlurmError(f"{' '.join(command)} failed:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
