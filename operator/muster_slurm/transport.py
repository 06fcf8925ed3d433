"""The one interface to SLURM: submit, list, cancel. slurmrestd (`rest`) and the command line (`commands`) have it.

Each call asks once and answers or raises one of errors.py's SlurmError; when to ask again is the bridge's affair.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from muster_slurm.commands import Commands, local_shell, ssh_shell
from muster_slurm.errors import SettingsError
from muster_slurm.plan import Listing
from muster_slurm.request import Request
from muster_slurm.rest import Rest, Site
from muster_spec.pool_types import Slurm
from muster_spec.values import SecretKey


class Transport(Protocol):
    """A way to SLURM."""

    def submit(self, request: Request) -> int:
        """The id of the array job that was made."""

    def list_jobs(self, prefix: str) -> Listing:
        """The jobs, ended ones too while SLURM knows them, with `prefix` in their name or comment: in one call."""

    def cancel(self, job: int) -> None:
        """End a job, all its tasks if it is an array. One that has ended already is fine."""

    def max_array(self) -> int:
        """The site's MaxArraySize; SLURM's default where it isn't told, which may be too much."""


class Secrets:
    """A folder of secrets as Kubernetes mounts them: one folder a secret, one file a key. Read anew at each use."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def path(self, place: SecretKey) -> Path:
        """Where a secret lies. Raises SettingsError."""
        if self._folder is None:
            raise SettingsError(f"the pool needs the secret {place.name}; name the folder of secrets with --secrets")
        path = self._folder / place.name / place.key
        if not path.is_file():
            raise SettingsError(f"{path}: there is no such file; the pool needs this secret")
        return path

    def read(self, place: SecretKey) -> str:
        """What it holds, without the newline that editors leave. Raises SettingsError."""
        path = self.path(place)
        try:
            return path.read_text().rstrip("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: {getattr(error, 'strerror', None) or 'not text'}") from error


def open_transport(slurm: Slurm, secrets: Secrets) -> Transport:
    """The way that the pool says. Raises SettingsError for secrets that aren't there."""
    if slurm.command is not None:
        ssh = slurm.command.ssh
        if ssh is None:
            return Commands(local_shell())
        return Commands((*ssh_shell(ssh, secrets.path(ssh.key_secret), secrets.path(ssh.known_hosts_secret)),))
    if slurm.url is None or slurm.auth is None:
        raise SettingsError("spec.slurm: a pool without command needs url and auth")
    token = slurm.auth.token_secret
    secrets.read(token)
    authority = secrets.path(slurm.ca_secret) if slurm.ca_secret else None
    return Rest(Site(slurm.url, slurm.auth.user, authority, slurm.api_version), lambda: secrets.read(token))
