"""Makes the keys and certificates of a cluster, with two authorities as kubeadm has them.

etcd gets an authority of its own: whoever holds a certificate of the cluster's authority (every node, every approved
CertificateSigningRequest) would otherwise read all Secrets past the API server.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = dt.timedelta(days=365)
_CLOCKS_DIFFER_BY = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority that lives in `folder`."""

    folder: Path
    name: str

    @property
    def pair(self) -> Pair:
        return _pair(self.folder, self.name)


def ensure_authority(folder: Path, name: str) -> Authority:
    """The authority called `name`, made if it isn't there."""
    authority = Authority(folder, name)
    if not authority.pair.certificate.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject(name, None)
        builder = (
            _builder(subject, subject, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
        )
        _write_pair(authority.pair, builder.sign(key, hashes.SHA256()), key)
    return authority


def ensure_certificate(
    authority: Authority, name: str, *, common_name: str, group: str | None = None, hosts: Sequence[str] = ()
) -> Pair:
    """A certificate for a client, and for a server at `hosts` if any. Its subject is the user and the group."""
    pair = _pair(authority.folder, name)
    if not pair.certificate.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        issuer_key = _load_key(authority.pair.key)
        issuer = x509.load_pem_x509_certificate(authority.pair.certificate.read_bytes()).subject
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])]
        builder = (
            _builder(_subject(common_name, group), issuer, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_host(each) for each in hosts]), critical=False
            )
        _write_pair(pair, builder.sign(issuer_key, hashes.SHA256()), key)
    return pair


def ensure_signing_key(folder: Path, name: str) -> Path:
    """A bare key, for service-account tokens."""
    path = folder / f"{name}.key"
    if not path.exists():
        write_private(path, _key_bytes(ec.generate_private_key(ec.SECP256R1())))
    return path


def _pair(folder: Path, name: str) -> Pair:
    return Pair(folder / f"{name}.crt", folder / f"{name}.key")


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER_BY)
        .not_valid_after(now + _LIFE)
    )


def _subject(common_name: str, group: str | None) -> x509.Name:
    organisation = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*organisation, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{path} isn't an elliptic-curve key")
    return key


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """In the older of the two formats: the API server reads service-account keys in no other."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _write_pair(pair: Pair, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    """The key first: a certificate that is there means that both are."""
    write_private(pair.key, _key_bytes(key))
    write_private(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM))


def write_private(path: Path, content: bytes) -> None:
    """Whole or not at all, and for our eyes only from the first byte."""
    aside = path.with_suffix(f"{path.suffix}.new")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    aside.rename(path)
