"""Models on their way down: each encoded once, its frames shared by every client that fetches it.

Clients train from what they decode, which for a lossy codec is not quite the stored model. So a version has two names:
the digest of the model as it is stored (exact, what plans and commits speak of), and the digest of what clients decode
(the reference, what orders speak of and what both sides verify). Clients send differences from the reference; the
coordinator adds them to the exact model. What rounding took away on the way down thus stays in the model and is sent
again with the next version: small steps add up instead of being rounded off every round.

Where the job sends changes, versions form a chain: a keyframe's snapshot, then changes, and a client fetches whatever
leads from the version that it holds to the one that is wanted. The chain is on the shelf before a client hears of it.
Where it doesn't, every version is a keyframe, and made again after a restart.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from muster_coordinator.compression import Down
from muster_coordinator.reference import Encoded, Encoder, Reference, digest_of, mapped
from muster_coordinator.shelf import Shelf, StoredLink
from muster_wire.chain import Audience, Chain, Start, route, wants_keyframe
from muster_wire.codecs import Pipeline
from muster_wire.control import has_control
from muster_wire.errors import Cause, PayloadError, WireError
from muster_wire.frames import FRAME_BYTES, Transfer, prepare
from muster_wire.layout import Layout
from muster_wire.payload import PayloadKind, Shape, snapshot_in_place
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.values import Values

log = logging.getLogger("muster.coordinator")

RECENT_BYTES: Final = 2**24
_UNREACHABLE: Final = 2**63  # bytes: only of the newest version is there more than its chain


class Recent:
    """Frames made lately, for clients that fetch side by side and are never quite as far as each other.

    So many bytes at most, and none while nobody fetches: updates that come up have that memory. For the server's loop.
    """

    def __init__(self) -> None:
        self._frames: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._bytes = 0
        self._readers = 0

    @contextmanager
    def reader(self) -> Iterator[None]:
        """Somebody fetches."""
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                self._frames.clear()
                self._bytes = 0

    def frame(self, transfer: Transfer, offset: int) -> bytes:
        """The frame that begins here, made if need be."""
        key = (transfer.header.checksum, offset)
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = transfer.frame_at(offset)
            self._bytes += len(frame)
            while self._bytes > RECENT_BYTES:
                self._bytes -= len(self._frames.popitem(last=False)[1])
        return frame


class Version:
    """One transfer on its way down."""

    def __init__(self, transfer: Transfer, recent: Recent | None = None) -> None:
        self._transfer = transfer
        self._recent = recent or Recent()

    @property
    def digest(self) -> str:
        """Of what a client has after it."""
        return self._transfer.header.digest

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        return self._transfer.header.size

    def frames(self, offset: int) -> Iterator[bytes]:
        """Serialized frames from this offset on. FrameError if it isn't in the payload."""
        with self._recent.reader():
            yield from self._transfer.frames(offset, lambda at: self._recent.frame(self._transfer, at))


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """A version of the chain. Numbers rise; between two keyframes there is no gap."""

    number: int  # the round that made its model
    model: str
    transfer: Transfer

    @property
    def reference(self) -> str:
        return self.transfer.header.digest

    @property
    def is_keyframe(self) -> bool:
        return not self.transfer.header.base

    @property
    def size(self) -> int:
        return self.transfer.header.size


@dataclass(frozen=True, slots=True)
class Way:
    """What a client fetches, in this order; `is_plain`: first of all the wanted version as it is, in float32."""

    versions: tuple[Version, ...]
    is_plain: bool = False


class Broadcasts:
    """The versions that are given out. The driver publishes, the server's loop reads.

    `in_place`: what is published lies in files that stay as they are, so that float32 needs no copy of it.
    """

    def __init__(
        self,
        encoder: Encoder,
        keep: int,
        frame_bytes: int = FRAME_BYTES,
        shelf: Shelf | None = None,
        *,
        in_place: bool = False,
    ) -> None:
        self._encoder = encoder
        self._in_place = in_place and encoder.down == Down()
        self._keep = keep
        self._frame_bytes = frame_bytes
        self._shelf = shelf if encoder.down.delta else None
        self._lock = threading.Lock()
        self._links: tuple[Link, ...] = ()
        self._reference: Reference | None = None  # of the newest link, where changes are made
        self._plain: Version | None = None
        self._recent = Recent()

    # --- by the driver ------------------------------------------------------------------------------------------------

    def restore(self, models: Mapping[int, str], layout: Layout) -> list[str]:
        """Take the chain of an earlier coordinator up, as far as it leads to this history's models; what is odd."""
        if self._shelf is None:
            return []
        stored, warnings = self._shelf.read()
        ours = [(link, payload) for link, payload in stored if models.get(link.number) == link.model]
        try:
            self._links, self._reference = self._replayed([(self._link(*each, layout), each[1]) for each in ours])
        except WireError as error:
            warnings.append(f"the chain of versions can't be replayed ({error}): clients get a new keyframe")
        return warnings

    def publish(self, model: str, values: Values, number: int = 0, audience: Audience | None = None) -> None:
        """Encode a model, once."""
        if any(link.model == model for link in self._links) and not has_control(values.layout):
            return
        if self._in_place and not has_control(values.layout):  # a variate lies elsewhere
            transfer = self._plainly(values, model)
            reference = None
        else:
            transfer, reference = self._prepared(model, values, number, audience or Audience())
        links = _pruned((*self._links, Link(number, model, transfer)), self._keep)
        if self._shelf:
            self._shelf.write(map(_to_store, links))
        with self._lock:
            self._links, self._reference, self._plain = links, reference, None

    def _plainly(self, values: Values, digest: str) -> Transfer:
        return prepare(snapshot_in_place(values), values.layout, Pipeline(), digest, self._frame_bytes)

    def _prepared(
        self, model: str, values: Values, number: int, audience: Audience
    ) -> tuple[Transfer, Reference | None]:
        """A model, encoded; and what clients have of it, where the next version is a change of that."""
        encoded, base = self._encode(values, number, audience)
        if self._encoder.down.delta:
            reference = self._decoded(model, values, encoded, base)
            digest = reference.digest
        else:
            reference, digest = None, _name(model, values) if encoded.shape.pipeline.codec.exact else digest_of(encoded)
        kept = self._shelf.put(encoded.payload) if self._shelf else mapped(self._encoder.folder, encoded.payload)
        transfer = prepare(
            kept,
            values.layout,
            encoded.shape.pipeline,
            digest,
            self._frame_bytes,
            base.digest if base else "",
        )
        return transfer, reference

    def reference(self, model: str) -> str:
        """What clients call this model."""
        return next((link.reference for link in reversed(self._links) if link.model == model), model)

    def _encode(self, values: Values, number: int, audience: Audience) -> tuple[Encoded, Reference | None]:
        """A change of the newest version, or else a snapshot."""
        base = self._reference
        if base is not None and self._links[-1].number == number - 1:
            change = self._encoder.change(values, base.values, number)
            chain = self._chain(self._links[-1])
            if change and not wants_keyframe(chain, chain.snapshot, len(change.payload), audience):
                return change, base
        return self._encoder.snapshot(values, number), None

    def _decoded(self, model: str, values: Values, encoded: Encoded, base: Reference | None) -> Reference:
        if base is None and encoded.shape.pipeline.codec.exact:
            return Reference(model, values)
        return self._encoder.decoded(encoded, base.values if base else None)

    # --- after a restart ----------------------------------------------------------------------------------------------

    def _link(self, link: StoredLink, payload: memoryview, layout: Layout) -> Link:
        pipeline = Pipeline.from_fields(*link.pipeline)
        transfer = prepare(payload, layout, pipeline, link.reference, self._frame_bytes, link.base)
        return Link(link.number, link.model, transfer)

    def _replayed(self, stored: Sequence[tuple[Link, memoryview]]) -> tuple[tuple[Link, ...], Reference | None]:
        """The links that lead from a keyframe to one another, and the reference at their end."""
        reference: Reference | None = None
        links = tuple(link for link, _ in stored)
        for count, (link, payload) in enumerate(stored):
            before = reference.digest if reference else ""
            if not link.is_keyframe and link.transfer.header.base != before:
                return links[:count], reference
            encoded = Encoded(payload, _shape(link))
            reference = self._encoder.decoded(encoded, reference.values if reference else None)
            if reference.digest != link.reference:
                raise PayloadError(Cause.MALFORMED, f"version {link.number} decodes to {reference.digest}")
        return links, reference

    # --- by the server's loop -----------------------------------------------------------------------------------------

    def way(self, wanted: str, held: str, *, snapshots_only: bool = False) -> Way | None:
        """The smallest way to a version from the one that is held, if the wanted one is still given out."""
        with self._lock:
            numbers = {link.reference: link.number for link in self._links}
            if wanted not in numbers:
                return None
            by_number = {link.number: link for link in self._links}
            newest = by_number[numbers[wanted]]
            if snapshots_only:
                return self._whole(newest)
            chain = self._chain(newest)
            found = route(chain, numbers.get(held))
            start = (by_number[chain.keyframe],) if found.start is Start.KEYFRAME else ()
            hops = (*start, *(by_number[number] for number in found.deltas))
            return Way(tuple(Version(link.transfer, self._recent) for link in hops), found.start is Start.PLAIN)

    def plain(self, wanted: str) -> Version | None:
        """The newest version as it decodes, in float32: made when it is first asked for. Takes a while."""
        with self._lock:
            newest, made = self._reference, self._plain
        if newest is None or newest.digest != wanted:
            return None
        if made is not None:
            return made
        made = Version(self._plainly(newest.values, wanted), self._recent)
        with self._lock:
            if self._reference is newest:
                self._plain = made
        return made

    @property
    def plain_size(self) -> int:
        """Bytes of any version in float32."""
        links = self._links
        return _plain_size(links[-1].transfer.header.layout) if links else 0

    def _whole(self, link: Link) -> Way | None:
        if link.is_keyframe:
            return Way((Version(link.transfer, self._recent),))
        return Way((), is_plain=True) if link is self._links[-1] else None

    def _chain(self, newest: Link) -> Chain:
        """The chain that ends here."""
        links = self._links[: self._links.index(newest) + 1]
        keyframe = next(link for link in reversed(links) if link.is_keyframe)
        deltas = {link.number: link.size for link in links if link.number > keyframe.number}
        has_plain = self._reference is not None and newest is self._links[-1]
        plain = _plain_size(keyframe.transfer.header.layout) if has_plain else _UNREACHABLE
        return Chain(keyframe.number, keyframe.size, deltas, plain)


def frames_of(versions: Sequence[Version], request: pb.FetchRequest) -> Iterator[bytes]:
    """One transfer after the other, from where the client is. FrameError for an offset that isn't in the first one."""
    for place, version in enumerate(versions):
        is_begun = place == 0 and version.digest == (request.partial or request.digest)
        yield from version.frames(request.offset if is_begun else 0)


def _name(model: str, values: Values) -> str:
    """What clients call a version that they decode to the last bit: the model, but for what goes out beside it."""
    return values.digest() if has_control(values.layout) else model


def _pruned(links: tuple[Link, ...], keep: int) -> tuple[Link, ...]:
    """From the last keyframe on that the newest `keep` versions need."""
    oldest = max(len(links) - keep, 0)
    return links[max(at for at in range(oldest + 1) if links[at].is_keyframe) :]


def _plain_size(layout: Layout) -> int:
    return Shape(layout, PayloadKind.SNAPSHOT, Pipeline()).sizes.most


def _shape(link: Link) -> Shape:
    kind = PayloadKind.SNAPSHOT if link.is_keyframe else PayloadKind.UPDATE
    return Shape(link.transfer.header.layout, kind, link.transfer.header.codec)


def _to_store(link: Link) -> StoredLink:
    header = link.transfer.header
    pipeline = Shape(header.layout, PayloadKind.SNAPSHOT, header.codec).pipeline
    return StoredLink(
        number=link.number,
        model=link.model,
        reference=link.reference,
        base=header.base,
        pipeline=pipeline.fields,
        checksum=header.checksum,
    )
