"""The coordinator's command line, read once into a typed value."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from muster_coordinator.apiserver import Account
from muster_coordinator.errors import InputError
from muster_coordinator.security import Security, add_security_flags, read_security
from muster_spec.types import ResolvedJob
from muster_telemetry.address import AddressError, parse_address
from muster_telemetry.logs import LOG_FORMATS, LogFormat, log_format_of


@dataclass(frozen=True, slots=True)
class Storage:
    """A folder; or an object store with its `url`, and a folder to work in."""

    folder: Path
    url: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a coordinator is told from outside, but the job itself."""

    job: ResolvedJob
    storage: Storage
    listen: str
    security: Security
    account: Account | None  # where there is a cluster to report to
    exit_with_stdin: bool
    debug: bool
    log_format: LogFormat
    metrics: str | None  # where to serve them


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Raises InputError, with one line for people, for anything that can't be used."""
    given = _parser().parse_args(arguments)
    listen = checked_address("--listen", given.listen)
    return Settings(
        job=read_job(given.job),
        storage=read_storage(given.storage, given.scratch),
        listen=listen,
        security=read_security(given),
        account=_read_account(given.service_account, environment) if given.service_account else None,
        exit_with_stdin=given.exit_with_stdin,
        debug=given.debug,
        log_format=given.log_format or log_format_outside(),
        metrics=checked_address("--metrics", given.metrics) if given.metrics else None,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m muster_coordinator",
        description="Run one FederatedJob: anew in an empty storage directory, on where it was in a used one.",
    )
    parser.add_argument("--job", type=Path, required=True, metavar="FILE", help="the resolved job, as JSON")
    parser.add_argument(
        "--storage",
        required=True,
        metavar="DIR|URL",
        help="where history and models are kept: a folder, or an object store",
    )
    parser.add_argument(
        "--scratch",
        type=Path,
        metavar="DIR",
        help="where to work on what an object store keeps; it may be gone afterwards. Default: a folder in /tmp",
    )
    parser.add_argument("--listen", required=True, metavar="HOST:PORT", help="port 0 takes any one")
    parser.add_argument(
        "--exit-with-stdin", action="store_true", help="leave, as after SIGTERM, when standard input is closed"
    )
    parser.add_argument(
        "--service-account",
        type=Path,
        metavar="DIR",
        help="write progress into the job's status, with the token and ca.crt in DIR, at the API server that the "
        "environment names as it does in every pod",
    )
    parser.add_argument("--debug", action="store_true", help="tracebacks and more logs")
    parser.add_argument("--metrics", metavar="HOST:PORT", help="serve metrics for Prometheus here, at /metrics")
    parser.add_argument("--log-format", choices=LOG_FORMATS, help="default: MUSTER_LOG_FORMAT, else text")
    add_security_flags(parser)
    return parser


def read_storage(place: str, scratch: Path | None) -> Storage:
    """What `--storage` and `--scratch` mean."""
    if "://" not in place:
        return Storage(Path(place))
    return Storage(scratch or Path(tempfile.mkdtemp(prefix="muster-")), place)


def read_job(path: Path) -> ResolvedJob:
    """The resolved job in a file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ResolvedJob)
    except OSError as error:
        raise InputError(f"--job {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InputError(f"--job {path}: not a resolved job: {error}") from error


def _read_account(folder: Path, environment: Mapping[str, str]) -> Account:
    host, port = (environment.get(f"KUBERNETES_SERVICE_{name}", "") for name in ("HOST", "PORT"))
    if not host or not port.isdecimal():
        raise InputError("--service-account: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT say no API server")
    for name in ("token", "ca.crt"):
        if not (folder / name).is_file():
            raise InputError(f"--service-account {folder}: there is no {name} in it")
    return Account(host, int(port), folder)


def checked_address(option: str, address: str) -> str:
    """What an option gave as HOST:PORT."""
    try:
        parse_address(address)
    except AddressError as error:
        raise InputError(f"{option} {error}") from error
    return address


def log_format_outside() -> LogFormat:
    """What the environment says of logs."""
    try:
        return log_format_of()
    except ValueError as error:
        raise InputError(str(error)) from error
