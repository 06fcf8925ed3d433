"""Codecs: how tensors become bytes. The registry holds one for each `CodecId`; a test closes it against the .proto.

Stages compose: `Pipeline` says which, in the one order that there is, and gives the codec that does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from muster_wire.codecs.base import Codec, CodecId, FixedCodec, Random, Sizes
from muster_wire.codecs.pipeline import Pipeline, codec_id, pipeline_of

CODECS: Final[Mapping[CodecId, Codec]] = MappingProxyType({known: pipeline_of(known).codec for known in CodecId})

__all__ = ["CODECS", "Codec", "CodecId", "FixedCodec", "Pipeline", "Random", "Sizes", "codec_id", "pipeline_of"]
