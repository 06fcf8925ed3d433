"""The lobby's command line, read once into a typed value."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from muster_coordinator.settings import checked_address, log_format_outside
from muster_coordinator.tls import TlsFiles
from muster_telemetry.logs import LOG_FORMATS, LogFormat


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
        listen=checked_address("--listen", given.listen),
        tls=TlsFiles(given.tls_cert, given.tls_key, given.tls_ca),
        authority=given.tls_ca,
        namespaces=tuple(filter(None, given.namespaces.split(","))),
        metrics=checked_address("--metrics", given.metrics) if given.metrics else None,
        log_format=given.log_format or log_format_outside(),
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
