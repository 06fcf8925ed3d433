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
from pathlib import Path

from muster_coordinator.limits import FRAME_BYTES
from muster_wire.codecs import Pipeline
from muster_wire.errors import PayloadError
from muster_wire.frames import Transfer, prepare
from muster_wire.payload import PayloadKind, Shape, decode, encode_snapshot
from muster_wire.values import Values

log = logging.getLogger("muster.coordinator")


class Broadcasts:
    """The newest few versions, ready to be sent. The driver publishes, the server's loop reads."""

    def __init__(self, folder: Path, pipeline: Pipeline, keep: int) -> None:
        self._folder = folder
        self._pipeline = pipeline
        self._keep = keep
        self._lock = threading.Lock()
        self._references: dict[str, str] = {}
        self._transfers: OrderedDict[str, Transfer] = OrderedDict()  # by reference

    def publish(self, model: str, values: Values) -> None:
        """Encode a model, once."""
        if model in self._references:
            return
        pipeline, encoded = self._encode(values)
        payload = _mapped(self._folder, encoded)
        del encoded  # one model's worth of memory
        reference = model if pipeline.codec.exact else _decoded_digest(values, pipeline, payload)
        transfer = prepare(payload, values.layout, pipeline, reference, FRAME_BYTES)
        with self._lock:
            self._references[model] = reference
            self._transfers[reference] = transfer
            while len(self._transfers) > self._keep:
                self._transfers.popitem(last=False)

    def reference(self, model: str) -> str:
        """What clients call this model."""
        return self._references.get(model, model)

    def get(self, reference: str) -> Transfer | None:
        with self._lock:
            return self._transfers.get(reference)

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
