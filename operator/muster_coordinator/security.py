"""What the command line says about who may talk to this coordinator: a plain port with a token, TLS, or mutual TLS.

nothing                 a plain port on this machine only; the token of the job is asked of every call
--tls-cert, --tls-key   TLS; the token is asked of every call
and --client-ca         mutual TLS: certificates say who calls, and a token, if there is one, is asked as well
and --enrol-key         workers come with a join bundle and have their own keys certified here
and --pool-authorities  so do workers of the job's External pools, with a certificate of their pool
"""

from __future__ import annotations

import argparse
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from muster_coordinator.errors import InputError
from muster_coordinator.tls import EnrolmentFiles, TlsFiles

MIN_TOKEN_LENGTH = 16
ENROL_MINUTES = 60
LONGEST_ENROL_MINUTES = 7 * 24 * 60


@dataclass(frozen=True, slots=True)
class Security:
    """How callers prove who they are."""

    token: str | None = field(repr=False)
    tls: TlsFiles | None = None
    enrolment: EnrolmentFiles | None = None
    deny_list: Path | None = None
    pool_authorities: Path | None = None

    @property
    def is_mutual(self) -> bool:
        """Whether certificates say who calls."""
        return self.tls is not None and self.tls.client_ca is not None


def add_security_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that `read_security` reads."""
    group = parser.add_argument_group("who may talk to it (files may change while it runs; new connections use them)")
    add = group.add_argument
    add("--token-file", type=Path, metavar="FILE", help="a secret that every call has to bring")
    add("--tls-cert", type=Path, metavar="FILE", help="this server's certificate chain, in PEM")
    add("--tls-key", type=Path, metavar="FILE", help="its private key")
    add("--client-ca", type=Path, metavar="FILE", help="mutual TLS: who vouches for workers, in PEM")
    add("--enrol-key", type=Path, metavar="FILE", help="the key of one of --client-ca, to certify workers' keys with")
    add(
        "--enrol-minutes",
        type=int,
        default=ENROL_MINUTES,
        metavar="N",
        help="how long the certificates made so are valid (default: %(default)s)",
    )
    add(
        "--pool-authorities",
        type=Path,
        metavar="DIR",
        help="who vouches for the workers of External pools: <pool>.crt for each, which may come later",
    )
    add("--deny-list", type=Path, metavar="FILE", help="serials and identities that are refused")


def read_security(given: argparse.Namespace) -> Security:
    """Raises InputError for combinations that can't work, and for a token that is none."""
    _check_combination(given)
    tls = TlsFiles(given.tls_cert, given.tls_key, given.client_ca) if given.tls_cert else None
    enrolment = None
    if given.enrol_key:
        enrolment = EnrolmentFiles(given.client_ca, given.enrol_key, 60.0 * given.enrol_minutes)
    token = _read_token(given.token_file) if given.token_file else None
    return Security(token, tls, enrolment, given.deny_list, given.pool_authorities)


def _check_combination(given: argparse.Namespace) -> None:
    problems: tuple[tuple[object, str], ...] = (
        (bool(given.tls_cert) != bool(given.tls_key), "--tls-cert and --tls-key: give both or neither"),
        (given.client_ca and not given.tls_cert, "--client-ca: mutual TLS also needs --tls-cert and --tls-key"),
        (given.enrol_key and not given.client_ca, "--enrol-key: also give its certificate, in --client-ca"),
        (
            given.pool_authorities and not given.enrol_key,
            "--pool-authorities: workers of External pools enrol here, which needs --enrol-key",
        ),
        (given.deny_list and not given.client_ca, "--deny-list: without mutual TLS (--client-ca) nobody has a name"),
        (not given.client_ca and not given.token_file, "--token-file: needed unless workers have certificates"),
        (
            not 1 <= given.enrol_minutes <= LONGEST_ENROL_MINUTES,
            f"--enrol-minutes {given.enrol_minutes}: from 1 to {LONGEST_ENROL_MINUTES} (a week)",
        ),
        (
            not given.tls_cert and not _is_loopback(given.listen.rpartition(":")[0]),
            f"--listen {given.listen}: a port that other machines can reach needs --tls-cert and --tls-key",
        ),
    )
    for is_wrong, message in problems:
        if is_wrong:
            raise InputError(message)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _read_token(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--token-file {path}: {getattr(error, 'strerror', None) or error}") from error
    if len(token) < MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable():
        raise InputError(f"--token-file {path}: a token has at least {MIN_TOKEN_LENGTH} printable ASCII characters")
    return token
