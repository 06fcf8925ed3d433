"""The models that a worker has fetched: each version once, whatever the number of clients that train from it."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from muster.errors import ConnectionBrokenError
from muster_wire.codecs import Pipeline
from muster_wire.durable import write_whole
from muster_wire.errors import WireError
from muster_wire.holding import Holding
from muster_wire.layout import Layout
from muster_wire.payload import PayloadKind, Shape, decode, encode_snapshot
from muster_wire.v1 import federation_pb2 as wire
from muster_wire.values import Values

log = logging.getLogger(__name__)

_KEPT: Final = 2  # the one that is trained from, and the next one while somebody still measures the last


class Line(Protocol):
    """Where versions come from."""

    def fetch(self, digest: str, holding: Holding) -> None:
        """Receive what leads from the version that is held to this one. ConnectionBrokenError if it breaks."""


class Models:
    """Versions by digest, the last two of them. With a place, the newest survives this process.

    Only changes make that worth a file: without them every version is fetched whole anyway.
    """

    def __init__(self, connection: Line, place: Path | None = None) -> None:
        self._connection = connection
        self._place = place
        self._holding: Holding | None = None
        self._decoded: OrderedDict[str, Values] = OrderedDict()
        self._brought: Sequence[wire.Frame] = ()

    def bring(self, frames: Sequence[wire.Frame]) -> None:
        """Frames have come along with orders: looked at once the version that they lead to is asked for."""
        self._brought = frames or self._brought

    def get(self, digest: str) -> Values:
        """A model, fetched if it isn't here, and proven to be the one of this name.

        Raises:
            ConnectionBrokenError: it couldn't be fetched whole this time.
        """
        if digest not in self._decoded:
            self._decoded[digest] = self._fetch(digest)
            while len(self._decoded) > _KEPT:
                self._decoded.popitem(last=False)
        self._decoded.move_to_end(digest)
        return self._decoded[digest]

    def _fetch(self, digest: str) -> Values:
        if self._holding is None:
            self._holding = Holding(_read(self._place))
        self._unpack(digest, self._holding)
        self._connection.fetch(digest, self._holding)
        if not self._holding.is_there:
            raise ConnectionBrokenError(f"the transfer of model {digest} ended early")
        values = self._holding.take()
        if self._place and self._holding.has_changed:
            _write(self._place, values)
        return values

    def _unpack(self, digest: str, holding: Holding) -> None:
        """Use what has been brought, if it leads to this version. Where it doesn't after all, it is fetched."""
        frames, self._brought = self._brought, ()
        leads_to = [frame.header.digest for frame in frames if frame.HasField("header")]
        if leads_to[-1:] != [digest]:
            return
        holding.want(digest)
        if holding.is_there:
            return
        try:
            holding.receive_all(frames)
        except WireError as error:
            log.info("the model that came along with orders can't be used: %s", error)


def _write(place: Path, values: Values) -> None:
    """The layout on a line, then a snapshot in float32."""
    try:
        write_whole(place, f"{values.layout.to_json()}\n".encode(), encode_snapshot(values, Pipeline()))
    except OSError as error:
        log.warning("%s: can't be written (%s): after a restart this worker fetches a whole model", place, error)


def _read(place: Path | None) -> Values | None:
    """What an earlier process held. Only its digest says that it is whole: the coordinator knows it, or doesn't."""
    if place is None or not place.exists():
        return None
    try:
        text, _, payload = place.read_bytes().partition(b"\n")
        return decode(Shape(Layout.from_json(text), PayloadKind.SNAPSHOT, Pipeline()), payload)
    except (OSError, WireError) as error:
        log.warning("%s: can't be read (%s): a whole model is fetched instead", place, error)
        return None
