"""Certificates and keys on disk: read with errors that name the file and the remedy, written so that only we can read.

Files change while processes run: an operator renews a Secret, and the kubelet swaps it in. `Watched` says when.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from muster_wire.durable import write_whole
from muster_wire.errors import TrustError
from muster_wire.trust.certificate import UNREADABLE, parse_pem
from muster_wire.trust.keys import Pair

MAX_FILE_BYTES = 1024 * 1024
NamedFile = tuple[str, Path]  # the flag that named it, for errors, and where it is


def read_file(file: NamedFile) -> bytes:
    """A small file. Raises TrustError that names it."""
    flag, path = file
    try:
        with path.open("rb") as source:
            content = source.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise TrustError(f"{flag} {path}: {error.strerror}; it has to exist and be readable for this user") from error
    if len(content) > MAX_FILE_BYTES:
        raise TrustError(f"{flag} {path}: longer than {MAX_FILE_BYTES} bytes, so it can't be what it should be")
    return content


def read_pair(certificate: NamedFile, key: NamedFile, now: float) -> Pair:
    """A certificate chain and its key, which belong together and hold now. Raises TrustError."""
    pair = Pair(read_file(certificate), read_file(key))
    leaf = read_leaf(certificate, pair.chain, now)
    if _public_bytes(leaf) != _public_half(key, pair.key):
        raise TrustError(
            f"{key[0]} {key[1]}: not the key of the certificate in {certificate[1]}; give two files made together"
        )
    return pair


def read_leaf(file: NamedFile, chain: bytes, now: float) -> x509.Certificate:
    """The first certificate of a chain that holds now. Raises TrustError that names the file it came from."""
    place = f"{file[0]} {file[1]}"
    try:
        leaf = parse_pem(chain)
    except TrustError as error:
        raise TrustError(f"{place}: {error.reason}") from error
    if now >= leaf.not_valid_after_utc.timestamp():
        raise TrustError(f"{place}: expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC; renew it")
    if now < leaf.not_valid_before_utc.timestamp():
        raise TrustError(
            f"{place}: not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC; set this machine's clock"
        )
    return leaf


def read_authorities(file: NamedFile) -> bytes:
    """One or more certificates of authorities. Raises TrustError."""
    content = read_file(file)
    try:
        x509.load_pem_x509_certificates(content)
    except UNREADABLE as error:
        raise TrustError(f"{file[0]} {file[1]}: no certificates in PEM in it: {error}") from error
    return content


def _public_bytes(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _public_half(file: NamedFile, pem: bytes) -> bytes:
    try:
        key = load_pem_private_key(pem, password=None)
    except UNREADABLE as error:
        raise TrustError(f"{file[0]} {file[1]}: not an unencrypted private key in PEM") from error
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only this user can read, whole or not at all, over whatever was there."""
    write_whole(path, content, 0o600)


class Watched:
    """Notices that any of some files is another than it was. A file that is gone counts as another."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._seen = self._stamps()

    def changed(self) -> bool:
        """Whether anything changed since the last time this said so, or since the start."""
        stamps = self._stamps()
        changed, self._seen = stamps != self._seen, stamps
        return changed

    def _stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
