"""The name in a certificate: whose worker or bridge this is, and for which clients it may speak.

A URI in the certificate's subject alternative name, in the manner of SPIFFE::

    muster://<realm>/<pool>               a worker of any of the pool's clients
    muster://<realm>/<pool>/0-3,7         only of these clients
    muster-join://<realm>/<pool>[/…]      not a worker yet: may only enrol, which makes it the worker of that name
    muster-bridge://<realm>/<pool>        what submits the pool's workers to a batch system: may only attend

The realm is the uid of the job, or of an External pool, which outlives jobs. There is one way to write an identity, and
any other is refused: two spellings of a name are how deny lists are evaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from muster_wire.errors import TrustError

MAX_URI = 4096
MAX_INDEX = 9_999_999

_URI = re.compile(
    r"(?P<role>muster|muster-join|muster-bridge)://(?P<realm>[a-z0-9](?:[a-z0-9.-]{0,126}[a-z0-9])?)"
    r"/(?P<pool>[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)"
    r"(?:/(?P<indices>[0-9]{1,7}(?:-[0-9]{1,7})?(?:,[0-9]{1,7}(?:-[0-9]{1,7})?)*))?"
)

Span = tuple[int, int]  # first and last, both included


class Role(Enum):
    """What the bearer is: the scheme of its URI."""

    WORKER = "muster"
    JOINER = "muster-join"
    BRIDGE = "muster-bridge"


@dataclass(frozen=True, slots=True)
class Identity:
    """A worker, a worker to be, or a bridge. Without `spans` it may act for every client of its pool."""

    role: Role
    realm: str
    pool: str
    spans: tuple[Span, ...] = ()

    @property
    def uri(self) -> str:
        """As it stands in the certificate."""
        indices = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in self.spans)
        return f"{self.role.value}://{self.realm}/{self.pool}" + (f"/{indices}" if indices else "")

    def covers(self, index: int) -> bool:
        """Whether it may act for this client of its pool."""
        return not self.spans or any(first <= index <= last for first, last in self.spans)

    def as_worker(self) -> Identity:
        """What it becomes by enrolling: the same name, in the other role."""
        return replace(self, role=Role.WORKER)


def parse_identity(uri: str) -> Identity:
    """The identity that a URI names. Raises TrustError for anything not written exactly as `Identity.uri` writes it."""
    match = _URI.fullmatch(uri) if len(uri) <= MAX_URI else None
    if match is None:
        raise TrustError(f"{_short(uri)} is not an identity: muster://<job uid>/<pool>, and perhaps /<indices>")
    spans = tuple(_span(part) for part in (match["indices"] or "").split(",") if part)
    identity = Identity(Role(match["role"]), match["realm"], match["pool"], spans)
    if identity.uri != uri or spans != _merged(spans) or any(first > last for first, last in spans):
        raise TrustError(f"{_short(uri)}: indices are written in order, without gaps, repeats or leading zeros")
    return identity


def name_identity(role: Role, realm: str, pool: str, indices: Iterable[int] = ()) -> Identity:
    """An identity that can stand in a certificate. Raises TrustError for names that can't."""
    return parse_identity(Identity(role, realm, pool, _merged((index, index) for index in indices)).uri)


def _merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    merged: list[Span] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)


def _span(text: str) -> Span:
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def _short(uri: str) -> str:
    return ascii(uri if len(uri) <= 80 else f"{uri[:77]}...")
