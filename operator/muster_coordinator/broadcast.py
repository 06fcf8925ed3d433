"""Models on their way down: each encoded once, its frames shared by every client that fetches it.

Clients train from what they decode, which for a lossy codec is not quite the stored model. So a version has two names:
the digest of the model as it is stored (exact, what plans and commits speak of), and the digest of what clients decode
(the reference, what orders speak of and what both sides verify). Clients send differences from the reference; the
coordinator adds them to the exact model. What rounding took away on the way down thus stays in the model and is sent
again with the next version: small steps add up instead of being rounded off every round. The encoding is
deterministic, so a restarted coordinator gives the same reference to the same model.

Encoded models lie in unlinked files that are mapped, so they are page cache and no memory of this process's own.
"""

from __future__ import annotations

import logging
import mmap
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from muster_wire.codecs import Pipeline
from muster_wire.errors import PayloadError
from muster_wire.frames import FRAME_BYTES, Transfer, prepare
from muster_wire.payload import PayloadKind, Shape, decode, encode_snapshot
from muster_wire.values import Values

log = logging.getLogger("muster.coordinator")

RECENT_FRAMES = 4


class Version:
    """A model as it is sent. Clients that fetch it side by side share a few frames. For the server's loop alone."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        self._recent: OrderedDict[int, bytes] = OrderedDict()

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        return self._transfer.header.size

    def frames(self, offset: int) -> Iterator[bytes]:
        """Serialized frames from this offset on. FrameError if it isn't in the payload."""
        return self._transfer.frames(offset, self._frame_at)

    def _frame_at(self, offset: int) -> bytes:
        frame = self._recent.get(offset)
        if frame is None:
            frame = self._recent[offset] = self._transfer.frame_at(offset)
            if len(self._recent) > RECENT_FRAMES:
                self._recent.popitem(last=False)
        return frame


class Broadcasts:
    """The newest few versions, ready to be sent. The driver publishes, the server's loop reads."""

    def __init__(self, folder: Path, pipeline: Pipeline, keep: int, frame_bytes: int = FRAME_BYTES) -> None:
        self._folder = folder
        self._frame_bytes = frame_bytes
        self._pipeline = pipeline
        self._keep = keep
        self._lock = threading.Lock()
        self._references: dict[str, str] = {}
        self._versions: OrderedDict[str, Version] = OrderedDict()  # by reference

    def publish(self, model: str, values: Values) -> None:
        """Encode a model, once."""
        if model in self._references:
            return
        pipeline, encoded = self._encode(values)
        payload = _mapped(self._folder, encoded)
        del encoded  # one model's worth of memory
        reference = model if pipeline.codec.exact else _decoded_digest(values, pipeline, payload)
        version = Version(prepare(payload, values.layout, pipeline, reference, self._frame_bytes))
        with self._lock:
            self._references[model] = reference
            self._versions[reference] = version
            while len(self._versions) > self._keep:
                self._versions.popitem(last=False)

    def reference(self, model: str) -> str:
        """What clients call this model."""
        return self._references.get(model, model)

    def get(self, reference: str) -> Version | None:
        with self._lock:
            return self._versions.get(reference)

    def _encode(self, values: Values) -> tuple[Pipeline, memoryview]:
        try:
            return self._pipeline, encode_snapshot(values, self._pipeline)
        except PayloadError as error:
            log.warning("this model goes out as float32: %s", error)
            return Pipeline(), encode_snapshot(values, Pipeline())


def _decoded_digest(values: Values, pipeline: Pipeline, payload: memoryview) -> str:
    return decode(Shape(values.layout, PayloadKind.SNAPSHOT, pipeline), payload).digest()


def _mapped(folder: Path, data: memoryview) -> memoryview:
    """The same bytes, in a file that has no name and that the kernel may write out and drop from memory."""
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        written = 0
        while written < len(data):
            written += os.write(file.fileno(), data[written:])
        return memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
