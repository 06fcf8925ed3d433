"""Codecs: how tensors become bytes. The registry holds one for each `CodecId`; a test closes it against the .proto."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from muster_wire.codecs.base import Codec, CodecId
from muster_wire.codecs.float16 import Float16
from muster_wire.codecs.float32 import Float32
from muster_wire.errors import Cause, PayloadError

CODECS: Final[Mapping[CodecId, Codec]] = MappingProxyType({codec.id: codec for codec in (Float32(), Float16())})


def codec_id(number: int) -> CodecId:
    """A peer's number as a codec; PayloadError if there is none."""
    try:
        return CodecId(number)
    except ValueError as error:
        known = ", ".join(f"{known.value} ({known.name.lower()})" for known in CodecId)
        raise PayloadError(Cause.MALFORMED, f"{number} is not a codec; there are {known}") from error


__all__ = ["CODECS", "Codec", "CodecId", "codec_id"]
