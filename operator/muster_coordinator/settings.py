"""The coordinator's command line, read once into a typed value."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from muster_coordinator.errors import InputError
from muster_spec.types import ResolvedJob

MIN_TOKEN_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a coordinator is told from outside, but the job itself."""

    job: ResolvedJob
    storage: Path
    listen: str
    token: str
    exit_with_stdin: bool
    debug: bool


def read_settings(arguments: Sequence[str]) -> Settings:
    """Raises InputError, with one line for people, for anything that can't be used."""
    given = _parser().parse_args(arguments)
    return Settings(
        job=read_job(given.job),
        storage=given.storage,
        listen=_checked_address(given.listen),
        token=_read_token(given.token_file),
        exit_with_stdin=given.exit_with_stdin,
        debug=given.debug,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m muster_coordinator",
        description="Run one FederatedJob: anew in an empty storage directory, on where it was in a used one.",
    )
    parser.add_argument("--job", type=Path, required=True, metavar="FILE", help="the resolved job, as JSON")
    parser.add_argument("--storage", type=Path, required=True, metavar="DIR", help="where history and models are kept")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT", help="port 0 takes any one")
    parser.add_argument("--token-file", type=Path, required=True, metavar="FILE", help="the workers' secret")
    parser.add_argument(
        "--exit-with-stdin", action="store_true", help="leave, as after SIGTERM, when standard input is closed"
    )
    parser.add_argument("--debug", action="store_true", help="tracebacks and more logs")
    return parser


def read_job(path: Path) -> ResolvedJob:
    """The resolved job in a file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ResolvedJob)
    except OSError as error:
        raise InputError(f"--job {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise InputError(f"--job {path}: not a resolved job: {error}") from error


def _read_token(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--token-file {path}: {getattr(error, 'strerror', None) or error}") from error
    if len(token) < MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable():
        raise InputError(f"--token-file {path}: a token has at least {MIN_TOKEN_LENGTH} printable ASCII characters")
    return token


def _checked_address(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise InputError(f"--listen {address}: write HOST:PORT, for example 127.0.0.1:0 or 0.0.0.0:8443")
    return address
