"""A job's own certificate authority: it vouches for one coordinator and its workers, and for nobody else in the world.

Small on purpose: one root, no intermediates, ECDSA P-256, random serials. Certificates are short-lived, and what must
end sooner is on the coordinator's deny list; there are no revocation lists to publish. Time is an argument (seconds
since 1970); certificates begin a little before now, since no two machines agree on what now is.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from muster_wire.errors import TrustError
from muster_wire.trust.certificate import UNREADABLE
from muster_wire.trust.identity import Identity
from muster_wire.trust.keys import Pair, PrivateKey, PublicKey, key_from_pem, key_to_pem, make_key

SKEW_S = 300.0
CLIENT_S = 3600.0
SERVER_S = 30 * 86_400.0
AUTHORITY_S = 2 * 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class Authority:
    """The root's certificate and its private key."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def pem(self) -> bytes:
        """The root's certificate: what peers are told to trust."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return key_to_pem(self.key)

    def issue_server(self, hosts: Iterable[str], now: float, valid_s: float = SERVER_S) -> Pair:
        """A coordinator's certificate for these DNS names and IP addresses, with a new key."""
        names = [_host(host) for host in hosts]
        if not names:
            raise TrustError("a server's certificate needs at least one host name or address")
        key = make_key()
        builder = self._leaf(key.public_key(), names, ExtendedKeyUsageOID.SERVER_AUTH, now, valid_s)
        return Pair(self._sign(builder.subject_name(_name("muster coordinator"))), key_to_pem(key))

    def issue_client(self, identity: Identity, now: float, valid_s: float) -> Pair:
        """A client's certificate with a new key: what a join bundle holds."""
        key = make_key()
        return Pair(self.certify(key.public_key(), identity, now, valid_s), key_to_pem(key))

    def certify(
        self, key: PublicKey, identity: Identity, now: float, valid_s: float, origin: int | None = None
    ) -> bytes:
        """A client's certificate, in PEM, for a key that the client made."""
        names = [x509.UniformResourceIdentifier(identity.uri)]
        builder = self._leaf(key, names, ExtendedKeyUsageOID.CLIENT_AUTH, now, valid_s)
        return self._sign(builder.subject_name(_name(identity.pool, origin)))

    def _leaf(
        self,
        key: PublicKey,
        names: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        now: float,
        valid_s: float,
    ) -> x509.CertificateBuilder:
        ours = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        end = min(_date(now + valid_s), self.certificate.not_valid_after_utc)
        return (
            _dated(key, _date(now - SKEW_S), end)
            .issuer_name(self.certificate.subject)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(certificates=False), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ours), critical=False)
        )

    def _sign(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def make_authority(realm: str, now: float, valid_s: float = AUTHORITY_S) -> Authority:
    """A new authority for the job (or External pool) of this uid."""
    key = make_key()
    name = _name(f"muster {realm}"[:64])
    builder = (
        _dated(key.public_key(), _date(now - SKEW_S), _date(now + valid_s))
        .subject_name(name)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Authority(builder.sign(key, hashes.SHA256()), key)


def authority_from_pem(roots: bytes, key: bytes) -> Authority:
    """The authority among these that the key belongs to. Raises TrustError when there is none."""
    private = key_from_pem(key)
    try:
        certificates = x509.load_pem_x509_certificates(roots)
    except UNREADABLE as error:
        raise TrustError(f"no certificates in PEM: {error}") from error
    for root in certificates:
        if _is_of(root, private) and _may_sign(root):
            return Authority(root, private)
    raise TrustError("not the key of any of the authorities that it should belong to")


def _is_of(certificate: x509.Certificate, key: PrivateKey) -> bool:
    try:
        return certificate.public_key() == key.public_key()
    except UNREADABLE:  # another's, of a kind that nobody here knows
        return False


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, *UNREADABLE):
        return False


def _dated(key: PublicKey, start: datetime, end: datetime) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(public_key=key, serial_number=x509.random_serial_number())
    return builder.not_valid_before(start).not_valid_after(end)


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str, origin: int | None = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if origin is not None:
        attributes.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, f"{origin:x}"))
    return x509.Name(attributes)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise TrustError(f"{host!r} is not a host name that a certificate can carry: {error}") from error


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=int(seconds))
