"""The server's end of TLS: its certificate and whom it trusts, read again for new connections when the files change.

A renewed certificate, or another set of authorities, is in force from the next handshake on; connections that are open
go on with what they began with, so rotation drops no work. How long they may is bounded in server.py.

Why client certificates are required of everybody and not only asked for: grpc's Python server can't be told to make
them optional. So a worker that has none yet brings a certificate too, one that may only enrol.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc

from muster_coordinator.errors import InputError
from muster_coordinator.external import ExternalPools
from muster_coordinator.ports import Clock
from muster_wire.errors import TrustError
from muster_wire.trust.authority import Authority, authority_from_pem
from muster_wire.trust.files import Watched, read_authorities, read_file, read_pair

log = logging.getLogger("muster.coordinator")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the server's credentials are. With `client_ca` TLS is mutual."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class EnrolmentFiles:
    """The authority that certifies workers' keys, and for how long its certificates hold."""

    client_ca: Path
    key: Path
    valid_s: float


class Roots(Protocol):
    """Who vouches for clients. Grpc's own threads ask."""

    def changed(self) -> bool:
        """Whether it is somebody else than when this was asked last."""

    def read(self) -> bytes:
        """In PEM. Raises TrustError."""


class JobRoots:
    """Those of a job: its own, and those of its External pools."""

    def __init__(self, client_ca: Path, external: ExternalPools) -> None:
        self._file = ("--client-ca", client_ca)
        self._external = external
        self._watched = Watched([client_ca, *external.files])

    def changed(self) -> bool:
        return self._watched.changed()

    def read(self) -> bytes:
        return read_authorities(self._file) + self._external.roots()


class ServerCertificates:
    """What each new connection is greeted with, and who vouches for those who come: without `roots`, nobody does."""

    def __init__(self, files: TlsFiles, clock: Clock, roots: Roots | None) -> None:
        """Raises InputError, which names the file and the remedy."""
        self._files = files
        self._clock = clock
        self._roots = roots
        self._watched = Watched([files.certificate, files.key])
        self._is_stale = False
        try:
            self._first = self._read()
        except TrustError as error:
            raise InputError(error.reason) from error

    def credentials(self) -> grpc.ServerCredentials:
        """For a port."""
        return grpc.dynamic_ssl_server_credentials(
            self._first, self.renewed, require_client_authentication=self._roots is not None
        )

    def renewed(self) -> Any:
        """The configuration, if it has changed since the last connection, else None. Grpc's own threads call this."""
        is_new = [self._watched.changed(), self._roots is not None and self._roots.changed()]
        if not any(is_new) and not self._is_stale:
            return None
        try:
            configuration = self._read()
            self._is_stale = False
        except TrustError as error:
            self._is_stale = True  # half of a rotation, perhaps: look again at the next connection
            log.error("%s; new connections get the one before", error.reason)  # noqa: TRY400 -- one plain line
            return None
        log.info("new connections get the certificate that %s has now", self._files.certificate)
        return configuration

    def _read(self) -> grpc.ServerCertificateConfiguration:
        files = self._files
        pair = read_pair(("--tls-cert", files.certificate), ("--tls-key", files.key), self._clock.unix())
        roots = self._roots.read() if self._roots else None
        return grpc.ssl_server_certificate_configuration([(pair.key, pair.chain)], roots)


def read_authority(files: EnrolmentFiles) -> Authority:
    """The authority that enrols workers: the one in --client-ca that this key belongs to. Raises InputError."""
    try:
        roots, key = read_file(("--client-ca", files.client_ca)), read_file(("--enrol-key", files.key))
        return authority_from_pem(roots, key)
    except TrustError as error:
        place = "" if str(files.client_ca) in error.reason or str(files.key) in error.reason else f"{files.key}: "
        raise InputError(f"--enrol-key {place}{error.reason}" if place else error.reason) from error
