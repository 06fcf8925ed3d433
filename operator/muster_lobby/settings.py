"""The lobby's command line, read once into a typed value."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from muster_coordinator.errors import InputError
from muster_coordinator.tls import TlsFiles
from muster_telemetry.address import AddressError, parse_address
from muster_telemetry.logs import LOG_FORMATS, LogFormat, log_format_of


@dataclass(frozen=True, slots=True)
class Settings:
    """`tls.client_ca` is who vouches for the lobby. `namespaces` empty: all of the cluster."""

    listen: str
    tls: TlsFiles
    authority: Path
    namespaces: tuple[str, ...]
    metrics: str | None
    log_format: LogFormat


def read_settings(arguments: Sequence[str]) -> Settings:
    """Raises InputError, with one line for people, for anything that can't be used."""
    given = _parser().parse_args(arguments)
    return Settings(
        listen=_checked("--listen", given.listen),
        tls=TlsFiles(given.tls_cert, given.tls_key, given.tls_ca),
        authority=given.tls_ca,
        namespaces=tuple(filter(None, given.namespaces.split(","))),
        metrics=_checked("--metrics", given.metrics) if given.metrics else None,
        log_format=given.log_format or _log_format(),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m muster_lobby", description="Where workers of External pools enrol and wait for jobs."
    )
    add = parser.add_argument
    add("--listen", required=True, metavar="HOST:PORT", help="port 0 takes any one")
    add("--tls-cert", type=Path, required=True, metavar="FILE", help="the lobby's certificate chain, in PEM")
    add("--tls-key", type=Path, required=True, metavar="FILE", help="its private key")
    add("--tls-ca", type=Path, required=True, metavar="FILE", help="who vouches for it: workers are told to trust that")
    add("--namespaces", default="", metavar="A,B", help="where pools and jobs are looked for (default: everywhere)")
    add("--metrics", metavar="HOST:PORT", help="serve probes (/healthz, /readyz) and metrics (/metrics) here")
    add("--log-format", choices=LOG_FORMATS, help="default: MUSTER_LOG_FORMAT, else text")
    return parser


def _checked(option: str, address: str) -> str:
    try:
        parse_address(address)
    except AddressError as error:
        raise InputError(f"{option} {error}") from error
    return address


def _log_format() -> LogFormat:
    try:
        return log_format_of()
    except ValueError as error:
        raise InputError(str(error)) from error
