"""Keys that never leave the process that made them: P-256, a request to certify one, and what a request may hold."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from muster_wire.errors import TrustError
from muster_wire.trust.certificate import UNREADABLE

MAX_REQUEST_BYTES = 8 * 1024

PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate chain and its key, in PEM, as TLS takes them."""

    chain: bytes
    key: bytes


def make_key() -> PrivateKey:
    """A new private key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: PrivateKey) -> bytes:
    """Not encrypted: whoever writes it down writes it with `files.write_private`."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def key_from_pem(pem: bytes) -> PrivateKey:
    """Raises TrustError for anything but an unencrypted P-256 key."""
    try:
        key = load_pem_private_key(pem, password=None)
    except UNREADABLE as error:
        raise TrustError(f"not an unencrypted private key in PEM: {error}") from error
    if not isinstance(key, PrivateKey) or key.curve.name != "secp256r1":
        raise TrustError("not a P-256 key, which is what Muster signs with")
    return key


def make_request(key: PrivateKey) -> bytes:
    """A PKCS#10 request in DER that asks for nothing but a certificate for this key: who gets it, the server knows."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def read_request(der: bytes) -> PublicKey:
    """The key that a request is for, once it is proven that its sender holds it. Raises TrustError."""
    if len(der) > MAX_REQUEST_BYTES:
        raise TrustError(f"a request of {len(der)} bytes is longer than anybody needs ({MAX_REQUEST_BYTES})")
    try:
        request = x509.load_der_x509_csr(der)
        key = request.public_key()
        is_signed = request.is_signature_valid
    except (*UNREADABLE, InvalidSignature) as error:
        raise TrustError(f"not a PKCS#10 request: {error}") from error
    if not isinstance(key, PublicKey) or key.curve.name != "secp256r1":
        raise TrustError("only P-256 keys are certified")
    if not is_signed:
        raise TrustError("the request isn't signed with the key that it is for")
    return key
