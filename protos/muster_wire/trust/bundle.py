"""What a worker is given to join with, in one piece: where to dial, whom to trust, and a credential to begin with.

The credential is a certificate and key that may only enrol. It is good for as long as the batch job that carries it may
wait in a queue, for one pool, and is exchanged for a short-lived certificate of a key that the worker makes itself. As
text it is JSON, for a file, or the same in base64 on one line, for an environment variable.

An External pool's bundle outlives jobs: what it names is the lobby, where coordinators are learnt of.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from muster_wire.errors import TrustError
from muster_wire.trust.authority import Authority
from muster_wire.trust.identity import Identity
from muster_wire.trust.keys import Pair

MAX_TEXT = 256 * 1024


class Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`coordinator` is where to dial; with `lobby` that is the lobby of an External pool.

    `server_name` is what the other side's certificate is held against, where that isn't the host dialled. What isn't
    said isn't written: an older worker knows no lobby.
    """

    coordinator: str
    ca: str
    certificate: str
    key: str
    server_name: str = ""
    lobby: bool = False

    @property
    def pair(self) -> Pair:
        """The credential, as TLS takes it."""
        return Pair(self.certificate.encode(), self.key.encode())

    def to_json(self) -> str:
        """For a file, which has to be private."""
        return msgspec.json.format(msgspec.json.encode(self)).decode()

    def to_line(self) -> str:
        """For an environment variable."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode()


def make_bundle(
    authority: Authority, coordinator: str, joiner: Identity, now: float, valid_s: float, server_name: str = ""
) -> Bundle:
    """A bundle for `joiner`, an identity in the role of one who may only enrol."""
    pair = authority.issue_client(joiner, now, valid_s)
    return Bundle(coordinator, authority.pem.decode(), pair.chain.decode(), pair.key.decode(), server_name)


def make_pool_bundle(
    authority: Authority, lobby: str, lobby_ca: str, joiner: Identity, now: float, valid_s: float
) -> Bundle:
    """A bundle for an External pool, which has an authority of its own; another vouches for the lobby."""
    pair = authority.issue_client(joiner, now, valid_s)
    return Bundle(lobby, lobby_ca, pair.chain.decode(), pair.key.decode(), lobby=True)


def read_bundle(text: str) -> Bundle:
    """A bundle in either form. Raises TrustError."""
    text = text.strip()
    if len(text) > MAX_TEXT:
        raise TrustError(f"a join bundle of {len(text)} characters is longer than anybody needs ({MAX_TEXT})")
    try:
        return msgspec.json.decode(text if text.startswith("{") else base64.urlsafe_b64decode(text), type=Bundle)
    except (binascii.Error, msgspec.MsgspecError, UnicodeError, ValueError) as error:
        raise TrustError(f"not a join bundle, which is JSON, or the same in base64: {error}") from error
