"""A client's certificate, read into what the coordinator asks of it. Everything in it is hostile until it is here.

TLS has checked the chain of signatures, and the dates once, at the handshake. The rest (exactly one identity, well
written; the dates at each call) is checked with what this module reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from muster_wire.errors import TrustError
from muster_wire.trust.identity import Identity, parse_identity

MAX_PEM_BYTES = 64 * 1024
# What `cryptography` raises over bytes that are no certificate, request or key that it knows.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """Who holds it, and from when to when (seconds since 1970). `origin` is the serial of the join credential.

    `pem` is what it was read from.
    """

    identity: Identity
    serial: int
    origin: int | None
    not_before: float
    not_after: float
    pem: bytes = field(default=b"", repr=False, compare=False)

    def refused_because(self, now: float) -> str | None:
        """Why it doesn't hold at this moment."""
        if now >= self.not_after:
            return f"the certificate of {self.identity.uri} expired {now - self.not_after:.0f} s ago: enrol again"
        if now < self.not_before:
            return (
                f"the certificate of {self.identity.uri} is valid only in {self.not_before - now:.0f} s: "
                "set the clocks of both machines"
            )
        return None


def read_certificate(pem: bytes) -> Certificate:
    """The first certificate of a PEM chain. Raises TrustError unless it has exactly one identity, well written."""
    certificate = parse_pem(pem)
    return Certificate(
        identity=_identity(certificate),
        serial=certificate.serial_number,
        origin=_origin(certificate),
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        pem=pem,
    )


def parse_pem(pem: bytes) -> x509.Certificate:
    """The first certificate in PEM. Raises TrustError."""
    if len(pem) > MAX_PEM_BYTES:
        raise TrustError(f"a certificate of {len(pem)} bytes is longer than anybody needs ({MAX_PEM_BYTES})")
    try:
        return x509.load_pem_x509_certificate(pem)
    except UNREADABLE as error:
        raise TrustError(f"not a certificate in PEM: {error}") from error


def is_issued_by(pem: bytes, authorities: bytes) -> bool:
    """Whether one of these authorities (PEM) signed the first certificate of a chain.

    TLS only says that some authority did that the server trusts. Where it trusts several, each for its own realm, that
    is not enough. Raises TrustError for authorities or a certificate that can't be read.
    """
    certificate = parse_pem(pem)
    try:
        roots = x509.load_pem_x509_certificates(authorities)
    except UNREADABLE as error:
        raise TrustError(f"no certificates in PEM: {error}") from error
    return any(_signed(root, certificate) for root in roots)


def _signed(root: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def _identity(certificate: x509.Certificate) -> Identity:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = list(extension.value)
    except x509.ExtensionNotFound:
        names = []
    except UNREADABLE as error:
        raise TrustError(f"the certificate's extensions can't be read: {error}") from error
    if len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        raise TrustError(f"a client's certificate has one subject alternative name, a URI; this one has {len(names)}")
    return parse_identity(names[0].value)


def _origin(certificate: x509.Certificate) -> int | None:
    try:
        found = certificate.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)  # which reads all of the subject
        return int(str(found[0].value), 16) if found else None
    except UNREADABLE as error:
        raise TrustError("the certificate's subject can't be read, or its serial number is not hexadecimal") from error
