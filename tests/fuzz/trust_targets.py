"""Who is speaking: certificates, requests for them, join bundles, names."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from muster_coordinator.denylist import parse_deny_list
from muster_wire.errors import TrustError
from muster_wire.trust.authority import Authority, authority_from_pem, make_authority
from muster_wire.trust.bundle import Bundle, make_bundle, read_bundle
from muster_wire.trust.certificate import read_certificate
from muster_wire.trust.identity import Identity, Role, name_identity, parse_identity
from muster_wire.trust.keys import key_from_pem, make_key, make_request, read_request

NOW = 1_780_000_000.0
HOUR = 3600.0
WORKER = name_identity(Role.WORKER, "job-1", "p", (0, 1, 2, 7))
JOINER = name_identity(Role.JOINER, "job-1", "p")


@cache
def _authority() -> Authority:
    return make_authority("job-1", NOW)


def _pem(kind: str, data: bytes) -> bytes:
    """Armoured, so that a fuzzer gets at what lies inside; what is armour already stays."""
    if data.startswith(b"-----"):
        return data
    return f"-----BEGIN {kind}-----\n".encode() + base64.encodebytes(data) + f"-----END {kind}-----\n".encode()


def certificate(data: bytes) -> None:
    """What is read has one identity, spelled in the one way there is, and dates that can be held against a clock."""
    pem = _pem("CERTIFICATE", data)
    with contextlib.suppress(TrustError):
        found = read_certificate(pem)
        assert parse_identity(found.identity.uri) == found.identity
        assert found.refused_because(found.not_before) is None or found.not_after <= found.not_before
    with contextlib.suppress(TrustError):
        authority_from_pem(pem, _authority().key_pem)


def certificates() -> Iterator[bytes]:
    authority = _authority()
    for chain in (authority.pem, *(authority.issue_client(each, NOW, HOUR).chain for each in (WORKER, JOINER))):
        yield chain
        yield x509.load_pem_x509_certificate(chain).public_bytes(Encoding.DER)


def enrolment(data: bytes) -> None:
    """A request for a certificate: what is granted is only the key; and keys in PEM, as bundles carry them."""
    with contextlib.suppress(TrustError):
        chain = _authority().certify(read_request(data), WORKER, NOW, HOUR)
        assert read_certificate(chain).identity == WORKER
    with contextlib.suppress(TrustError):
        key_from_pem(_pem("PRIVATE KEY", data))


def enrolments() -> Iterator[bytes]:
    yield make_request(make_key())
    pair = _authority().issue_client(WORKER, NOW, HOUR)
    yield pair.key
    yield base64.b64decode(b"".join(pair.key.splitlines()[1:-1]))


def bundle(data: bytes) -> None:
    """A bundle that is taken is the same in both of its forms; what it holds is a certificate, or refused."""
    try:
        found = read_bundle(data.decode("utf-8", "surrogateescape"))
    except TrustError:
        return
    assert read_bundle(found.to_json()) == found == read_bundle(found.to_line())
    with contextlib.suppress(TrustError):
        read_certificate(found.pair.chain)
        key_from_pem(found.pair.key)


def bundles() -> Iterator[bytes]:
    whole = make_bundle(_authority(), "example.org:443", JOINER, NOW, HOUR, "coordinator.internal")
    for each in (whole, Bundle("h:1", "", "", "", lobby=True)):
        yield each.to_json().encode()
        yield each.to_line().encode()


def names(data: bytes) -> None:
    """Identities and lists of those who are denied: one spelling each."""
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(TrustError):
        identity = parse_identity(text)
        assert identity.uri == text
        assert all(identity.covers(first) and identity.covers(last) for first, last in identity.spans)
    with contextlib.suppress(TrustError):
        denied = parse_deny_list(text)
        assert all(isinstance(each, Identity) and each.role is Role.WORKER for each in denied.identities)


def some_names() -> Iterator[bytes]:
    yield WORKER.uri.encode()
    yield JOINER.uri.encode()
    yield f"# denied\n5f:3a:09\n{WORKER.uri} # left\n\n{JOINER.uri}\n".encode()
