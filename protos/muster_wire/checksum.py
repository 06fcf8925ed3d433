"""Checksums of everything that travels or is stored: XXH3, which runs at memory speed.

They detect damage and name versions of a model. They prove nothing about who sent the bytes: that is TLS's job.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from typing import TypeAlias

import xxhash

BytesLike: TypeAlias = bytes | bytearray | memoryview | mmap.mmap


def checksum64(data: BytesLike) -> int:
    """XXH3-64 of one frame."""
    return xxhash.xxh3_64_intdigest(data)


def checksum128(data: BytesLike) -> str:
    """XXH3-128 of a whole transfer or record, as 32 hexadecimal digits."""
    return xxhash.xxh3_128_hexdigest(data)


def checksum64_of(parts: Iterable[BytesLike]) -> int:
    """The same as `checksum64`, of bytes in several places."""
    state = xxhash.xxh3_64()
    for part in parts:
        state.update(part)
    return state.intdigest()


class Checksum128:
    """The same as `checksum128`, of bytes that come piece by piece."""

    def __init__(self) -> None:
        self._state = xxhash.xxh3_128()

    def update(self, data: BytesLike) -> None:
        self._state.update(data)

    def hexdigest(self) -> str:
        return self._state.hexdigest()
