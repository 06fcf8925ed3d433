"""Reads a listing of any length in little memory: the records of one array in a JSON object, one after the other.

A site's listing may hold 100,000 jobs, half a gigabyte of text. Of it only a window and the record under way are ever
in memory; what a record is for is the caller's affair.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from muster_slurm.errors import Unreachable

_DECODER = json.JSONDecoder()
_LARGEST = 16 * 1024 * 1024  # characters of a record: beyond this it is no job
_GAP = re.compile(r"[\s,]*")


class Listed:
    """The entries of the array called `name`, from chunks; `around` is what stood around it, once all was read."""

    def __init__(self, chunks: Iterable[bytes], name: str) -> None:
        self._chunks = iter(chunks)
        self._opening = re.compile(rf'"{name}"\s*:\s*\[')
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._text = ""
        self._place = 0
        self.around = ""

    def records(self) -> Iterator[dict[str, Any]]:
        """Every entry. Raises Unreachable for an answer that ends too early."""
        while (opening := self._opening.search(self._text)) is None:
            if not self._more():
                self.around = self._text
                return
        before, self._place = self._text[: opening.end()], opening.end()
        while (record := self._next()) is not None:
            yield record
        while self._more():
            pass
        self.around = before + self._text

    def _next(self) -> dict[str, Any] | None:
        """The next entry, or None at the array's end, where the place stays."""
        while True:
            gap = _GAP.match(self._text, self._place)
            self._place = gap.end() if gap else self._place
            if self._text.startswith("]", self._place):
                return None
            record = self._decoded() if self._text.startswith("{", self._place) else None
            if record is not None:
                return record
            if len(self._text) - self._place > _LARGEST or not self._more():
                raise Unreachable("the listing of jobs ended too early, or was none")

    def _decoded(self) -> dict[str, Any] | None:
        """The object at the place; None if more of it has to come."""
        try:
            record, self._place = _DECODER.raw_decode(self._text, self._place)
        except ValueError:
            return None
        found: dict[str, Any] = record
        return found

    def _more(self) -> bool:
        """Read on, and forget what is done with."""
        chunk = next(self._chunks, b"")
        self._text, self._place = self._text[self._place :] + self._decode(chunk), 0
        return bool(chunk)
