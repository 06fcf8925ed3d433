"""Which stages a section's numbers went through, as a value: what the wire says, and the codec that reads it.

::

    values ─► sparse, if some were chosen ─► one codec for the numbers ─► lossless, if packed ─► bytes

The order is fixed, so a pipeline is its number codec, two flags and a block size. In a section's header that is seven
bytes, which are zero but for the codec where nothing else is wanted; every field has one right value for the codec, and
all others are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from muster_wire.codecs.base import Codec, CodecId, FixedCodec
from muster_wire.codecs.bfloat16 import BFloat16
from muster_wire.codecs.float16 import Float16
from muster_wire.codecs.float32 import Float32
from muster_wire.codecs.integers import MAX_BLOCK, MIN_BLOCK, Int4, Int8
from muster_wire.codecs.lossless import Lossless
from muster_wire.codecs.onebit import MAX_ROTATED, OneBit, Sign
from muster_wire.codecs.sparse import Sparse
from muster_wire.errors import Cause, PayloadError

SPARSE: Final = 1  # flags
LOSSLESS: Final = 2

_PLAIN: Final[Mapping[CodecId, FixedCodec]] = MappingProxyType(
    {codec.id: codec for codec in (Float32(), Float16(), BFloat16())}
)
_BLOCKED: Final[Mapping[CodecId, Callable[[int], FixedCodec]]] = MappingProxyType(
    {CodecId.INT8: Int8, CodecId.INT4: Int4, CodecId.ONE_BIT: OneBit, CodecId.SIGN: Sign}
)
_BLOCKS: Final = {CodecId.INT8: 256, CodecId.INT4: 256, CodecId.ONE_BIT: 4096, CodecId.SIGN: 4096}  # usual sizes


@dataclass(frozen=True, slots=True)
class Pipeline:
    """PayloadError for stages that don't go together. Without a block, codecs that need one get their usual one."""

    numbers: CodecId = CodecId.FLOAT32
    sparse: bool = False
    lossless: bool = False
    block: int = 0

    def __post_init__(self) -> None:
        if self.numbers not in _PLAIN and self.numbers not in _BLOCKED:
            raise PayloadError(Cause.MALFORMED, f"{self.numbers.name} is a stage around numbers, and can't say them")
        if not self.block:
            object.__setattr__(self, "block", _BLOCKS.get(self.numbers, 0))
        if not _is_block(self.numbers, self.block):
            raise PayloadError(Cause.MALFORMED, f"blocks of {self.block} values are not for {self.numbers.name}")

    @classmethod
    def from_fields(cls, numbers: int, flags: int, block: int) -> Pipeline:
        """Reads what a peer says; PayloadError for anything that `fields` doesn't give."""
        pipeline = cls(codec_id(numbers), bool(flags & SPARSE), bool(flags & LOSSLESS), block)
        if pipeline.fields != (numbers, flags, block):
            raise PayloadError(Cause.MALFORMED, f"flags {flags} and blocks of {block} are not for {pipeline.name}")
        return pipeline

    @property
    def fields(self) -> tuple[int, int, int]:
        """What a section's header says: codec, flags, block."""
        return self.numbers.value, SPARSE * self.sparse | LOSSLESS * self.lossless, self.block

    @property
    def name(self) -> str:
        """For people: `sparse+int8+lossless`."""
        stages = ("sparse",) * self.sparse, (self.numbers.name.lower(),), ("lossless",) * self.lossless
        return "+".join(stage for part in stages for stage in part)

    @property
    def stages(self) -> frozenset[CodecId]:
        """What a peer must know to read this."""
        around = ((CodecId.SPARSE, self.sparse), (CodecId.LOSSLESS, self.lossless))
        return frozenset({self.numbers} | {stage for stage, used in around if used})

    @property
    def is_random(self) -> bool:
        """Whether encoding draws from a random stream."""
        return self.numbers in (CodecId.INT8, CodecId.INT4, CodecId.ONE_BIT)

    @property
    def codec(self) -> Codec:
        return _codec(self)


def pipeline_of(encoding: CodecId | Pipeline) -> Pipeline:
    """A codec alone is the pipeline of that stage, with float32 for the numbers that it leaves as they are."""
    return encoding if isinstance(encoding, Pipeline) else _ALONE[encoding]


def codec_id(number: int) -> CodecId:
    """A peer's number as a codec; PayloadError if there is none."""
    try:
        return CodecId(number)
    except ValueError as error:
        known = ", ".join(f"{known.value} ({known.name.lower()})" for known in CodecId)
        raise PayloadError(Cause.MALFORMED, f"{number} is not a codec; there are {known}") from error


def _is_block(numbers: CodecId, block: int) -> bool:
    if numbers in _PLAIN:
        return block == 0
    if numbers is CodecId.ONE_BIT:
        return MIN_BLOCK <= block <= MAX_ROTATED and block & (block - 1) == 0
    return MIN_BLOCK <= block <= MAX_BLOCK


@lru_cache(maxsize=64)  # a peer chooses block sizes
def _codec(pipeline: Pipeline) -> Codec:
    numbers = _PLAIN.get(pipeline.numbers) or _BLOCKED[pipeline.numbers](pipeline.block)
    packed = Lossless(numbers) if pipeline.lossless else numbers
    return Sparse(packed) if pipeline.sparse else packed


_AROUND: Final = {CodecId.SPARSE: Pipeline(sparse=True), CodecId.LOSSLESS: Pipeline(lossless=True)}
_ALONE: Final[Mapping[CodecId, Pipeline]] = MappingProxyType(
    {codec: _AROUND.get(codec) or Pipeline(codec) for codec in CodecId}
)
