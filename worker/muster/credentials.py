"""How this worker proves who it is, and stays able to: files that somebody renews, or a join bundle and enrolment.

A channel is opened with what `material` is at the time. Before each call that begins a session, and at each beat, the
connection asks whether renewal `is_due`; after a refusal it asks for one whatever the clock says, since the
coordinator's may differ. Nothing here knows grpc.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from muster.errors import ConnectionBrokenError, CredentialError, RefusedError
from muster.worker import TlsFiles
from muster_wire.errors import TrustError
from muster_wire.trust.authority import SKEW_S
from muster_wire.trust.bundle import Bundle, read_bundle
from muster_wire.trust.certificate import Certificate, read_certificate
from muster_wire.trust.files import Watched, read_authorities, read_pair, write_private
from muster_wire.trust.keys import Pair, key_to_pem, make_key, make_request

log = logging.getLogger(__name__)

RETRY_S = 10.0  # between two tries at a renewal that is due but fails
KEPT = "credential.json"

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Material:
    """What a channel is opened with: nothing at all, whom to trust, and perhaps a certificate of our own."""

    ca: bytes | None = None
    pair: Pair | None = field(default=None, repr=False)
    server_name: str = ""  # what the coordinator's certificate has to name, if that isn't the host dialled


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What came of an enrolment, in PEM."""

    chain: bytes
    authorities: bytes


Enrol = Callable[[Material, bytes], Enrolled]  # over a channel with this material, for this request


class Credentials(Protocol):
    """What a connection asks."""

    def material(self) -> Material: ...

    def is_due(self) -> bool:
        """Whether `renew` should be called before the next call."""

    def renew(self) -> bool:
        """Whether `material` is another now. Raises ConnectionBrokenError or RefusedError."""


class Fixed:
    """Nothing to renew: a plain channel, or TLS with a token."""

    def __init__(self, material: Material) -> None:
        self._material = material

    def material(self) -> Material:
        return self._material

    def is_due(self) -> bool:
        return False

    def renew(self) -> bool:
        return False


class FileCredentials:
    """Files that somebody else renews: they are read again when they change."""

    def __init__(self, files: TlsFiles, clock: Clock) -> None:
        """Raises CredentialError, which names the file and the remedy."""
        self._files = files
        self._clock = clock
        self._watched = Watched([path for path in (files.ca, files.certificate, files.key) if path])
        try:
            self._material = self._read()
        except TrustError as error:
            raise CredentialError(error.reason) from error

    def material(self) -> Material:
        return self._material

    def is_due(self) -> bool:
        return self._watched.changed()

    def renew(self) -> bool:
        try:
            fresh = self._read()
        except TrustError as error:
            log.warning("%s; going on with what was read before", error.reason)
            return False
        is_new, self._material = fresh != self._material, fresh
        return is_new

    def _read(self) -> Material:
        files = self._files
        ca = read_authorities(("--ca", files.ca))
        if files.certificate is None or files.key is None:
            return Material(ca, None, files.server_name)
        pair = read_pair(("--cert", files.certificate), ("--key", files.key), self._clock())
        return Material(ca, pair, files.server_name)


class EnrolledCredentials:
    """A short-lived certificate for a key that this process made, and a join bundle to begin with.

    With a folder the newest one is kept there, private, for the process that takes this one's place.
    """

    def __init__(self, source: BundleSource, enrol: Enrol, folder: Path | None, clock: Clock) -> None:
        """Raises CredentialError for a bundle that can't be used."""
        self._enrol = enrol
        self._clock = clock
        self._kept = folder / KEPT if folder else None
        self._source = source
        bundle = source.read()
        self._joiner = _material(bundle)
        self._bundle = bundle
        self._name = _read(bundle).identity.as_worker()
        self._current: tuple[Material, Certificate] | None = None
        self._retry_at = 0.0
        if self._kept and self._kept.exists():
            self._take_over(self._kept)

    def _take_over(self, kept: Path) -> None:
        try:
            bundle = read_bundle(kept.read_text())
            certificate = read_certificate(bundle.pair.chain)
        except (OSError, UnicodeDecodeError, TrustError) as error:
            log.warning("%s can't be used (%s): enrolling again", kept, error)
            return
        is_ours = certificate.identity == self._name and bundle.ca == self._bundle.ca
        if is_ours and not certificate.refused_because(self._clock()):
            self._current = _material(bundle), certificate

    def material(self) -> Material:
        return self._current[0] if self._current else self._joiner

    def is_due(self) -> bool:
        if self._current is None:
            return True
        now, certificate = self._clock(), self._current[1]
        life_s = certificate.not_after - certificate.not_before - SKEW_S
        return now >= self._retry_at and certificate.not_after - now < life_s / 3

    def renew(self) -> bool:
        """Enrol with the certificate there is, or else with the bundle's."""
        self._retry_at = self._clock() + RETRY_S
        key = make_key()
        enrolled = self._try_each(make_request(key))
        bundle = Bundle(
            coordinator=self._bundle.coordinator,
            ca=enrolled.authorities.decode(),
            certificate=enrolled.chain.decode(),
            key=key_to_pem(key).decode(),
            server_name=self._joiner.server_name,
        )
        certificate = _read(bundle)
        self._current = _material(bundle), certificate
        holds_s = round(certificate.not_after - self._clock())
        log.info("enrolled as %s until %s s from now", certificate.identity.uri, holds_s)
        self._keep(bundle)
        return True

    def _try_each(self, request: bytes) -> Enrolled:
        if self._current and not self._current[1].refused_because(self._clock()):
            try:
                return self._enrol(self._current[0], request)
            except (ConnectionBrokenError, RefusedError) as error:
                log.info("not enrolled with the certificate before (%s); trying the join bundle", error)
        self._joiner = _material(self._source.read_again())
        return self._enrol(self._joiner, request)

    def _keep(self, bundle: Bundle) -> None:
        if self._kept is None:
            return
        try:
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            write_private(self._kept, bundle.to_json().encode())
        except OSError as error:
            log.warning("%s: %s; the next process will have to enrol", self._kept, error.strerror)


class BundleSource:
    """Where a join bundle comes from. A worker may outlive the one that it began with, and needs the file's next."""

    def __init__(self, text: str, place: str, file: Path | None = None) -> None:
        self._text = text
        self._place = place
        self._file = file

    def read(self) -> Bundle:
        """The bundle as it was given. Raises CredentialError."""
        return read_join(self._text, self._place)

    def read_again(self) -> Bundle:
        """The bundle as it is now; the last good one where it can't be read."""
        try:
            text = self._file.read_text() if self._file else self._text
            bundle = read_join(text, self._place)
        except (OSError, UnicodeDecodeError, CredentialError) as error:
            log.warning("%s; going on with the join bundle as it was", error)
            return self.read()
        self._text = text
        return bundle


def read_join(text: str, place: str) -> Bundle:
    """A join bundle. Raises CredentialError that names where it came from."""
    try:
        bundle = read_bundle(text)
        read_certificate(bundle.pair.chain)
    except TrustError as error:
        raise CredentialError(f"{place}: {error.reason}; ask for a new bundle") from error
    return bundle


def _material(bundle: Bundle) -> Material:
    return Material(bundle.ca.encode(), bundle.pair, bundle.server_name)


def _read(bundle: Bundle) -> Certificate:
    try:
        return read_certificate(bundle.pair.chain)
    except TrustError as error:
        raise RefusedError(
            f"a certificate that can't be used came from {bundle.coordinator}: {error.reason}"
        ) from error
