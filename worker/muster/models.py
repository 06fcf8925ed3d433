"""The models that a worker has fetched: each version once, whatever the number of clients that train from it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from muster.connection import Connection
from muster.errors import ConnectionBrokenError
from muster_wire.errors import WireError
from muster_wire.frames import Memory, Reassembly
from muster_wire.payload import PayloadKind, Shape, decode_in_place
from muster_wire.values import Values

_KEPT = 2  # the one that is trained from, and the next one while somebody still measures the last


@dataclass(frozen=True, slots=True)
class _Partial:
    """A transfer that has begun; if it breaks, the next try goes on from what is here."""

    digest: str
    transfer: Reassembly
    memory: Memory


class Models:
    """Decoded snapshots by digest, the last two of them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._decoded: OrderedDict[str, Values] = OrderedDict()
        self._partial: _Partial | None = None

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
        def keep(transfer: Reassembly, memory: Memory) -> None:
            self._partial = _Partial(digest, transfer, memory)

        begun = self._partial if self._partial and self._partial.digest == digest else None
        self._connection.fetch(digest, begun.transfer if begun else None, keep)
        whole, self._partial = self._partial, None
        if whole is None:
            raise ConnectionBrokenError(f"no byte of model {digest} has come")
        return _decode(whole)


def _decode(whole: _Partial) -> Values:
    header = whole.transfer.header
    try:
        whole.transfer.finish()
        values = decode_in_place(Shape(header.layout, PayloadKind.SNAPSHOT, header.codec), whole.memory.view())
    except WireError as error:
        raise ConnectionBrokenError(f"model {whole.digest} arrived damaged: {error}") from error
    if values.digest() != whole.digest:
        raise ConnectionBrokenError(f"the bytes sent as model {whole.digest} are those of {values.digest()}")
    return values
