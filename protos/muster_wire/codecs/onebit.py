"""OneBit and Sign: a scale for each block of values, and of each value its sign.

OneBit is DRIVE (Vargaftik et al., NeurIPS 2021; EDEN, ICML 2022, with one bit): turn the block at random
(`rotation`), send the signs of R(x) and the scale S, decode R⁻¹(S · sign R(x)). S = ‖x‖² / ‖R(x)‖₁ makes the estimate
unbiased under a uniform rotation (DRIVE, section on unbiased estimates: ⟨x, x̂⟩ = ‖x‖² for every x, which the tests
hold us to), with an error of about π/2 − 1 = 0.57 of ‖x‖². Under the Hadamard rotation that is true of blocks with
many values, and nearly true of a block that a few large ones make up. Their other scale, ‖R(x)‖₁ / d, has the least
error for one vector (1 − 2/π) and a bias that doesn't average out over clients. What is on the wire is s = S / √d, with
which R⁻¹ needs no division: x̂ = D H sign(H D x) · s and s = ‖x‖² / ‖H D x‖₁.

Sign has no rotation, and the least-error scale ‖x‖₁ / d. It is for the largest values of an update, whose magnitudes
are alike (sparse ternary compression, Sattler et al. 2019), and needs error feedback.

Segment: OneBit's seed, u64; a float32 scale for each block; the signs, 1 for negative, lowest bit first. OneBit's last
block is filled with zeros up to a power of two, at least 8.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from muster_wire.codecs.base import BLOCK, NOT_FINITE, CodecId, Part, Random
from muster_wire.codecs.rotation import flips, hadamard
from muster_wire.codecs.segmented import Segmented
from muster_wire.errors import Cause, PayloadError
from muster_wire.values import Floats

MAX_ROTATED: Final = 16_384  # a power of two whose transform of signs int16 can hold

_SCALE: Final = np.dtype("<f4")
_MAX_SCALE: Final = 2.0**100
_SEED: Final = np.dtype("<u8")


class _Signs(Segmented):
    """A scale and the signs of each block."""

    def _check(self, encoded: memoryview, count: int) -> None:
        scales = self._split(encoded, count)[0]
        if not (np.isfinite(scales) & (scales >= 0) & (scales <= _MAX_SCALE)).all():
            raise PayloadError(Cause.NOT_FINITE, "a scale is negative, NaN, or beyond 2^100")

    def _split(self, encoded: memoryview, count: int) -> tuple[Floats, NDArray[np.uint8]]:
        *_, scales, signs = (part.length for part in self.parts(count))
        start = len(encoded) - signs - scales
        return (
            np.frombuffer(encoded[start : start + scales], _SCALE),
            np.frombuffer(encoded[start + scales :], np.uint8),
        )


class OneBit(_Signs):
    """The signs of randomly rotated blocks; unbiased."""

    id = CodecId.ONE_BIT

    def __init__(self, block: int = 4096) -> None:
        self.block = block
        self.step = BLOCK

    def parts(self, count: int) -> tuple[Part, ...]:
        runs = self._runs(count)
        signs = sum(rows * columns for rows, columns in runs)
        return Part(8 * (count > 0), 1), Part(4 * sum(rows for rows, _ in runs), 4), Part(signs // 8, 1)

    def _runs(self, count: int) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of the whole blocks, and of the last one, as it is stored."""
        whole, rest = divmod(count, self.block)
        return ((whole, self.block), (1, max(8, 1 << (rest - 1).bit_length()))) if rest else ((whole, self.block),)

    def _encode(self, values: Floats, encoded: memoryview, rng: Random) -> None:
        seed = int(rng.integers(2**64, dtype=np.uint64))
        encoded[:8] = seed.to_bytes(8, "little")
        scales, packed = self._split(encoded, values.size)
        work = np.zeros(8 * packed.size, np.float32)
        work[: values.size] = values
        work.view(np.uint32).__ixor__(flips(seed, work.size).astype(np.uint32) << 31)
        row = 0
        for table in self._tables(work, values.size):
            with np.errstate(over="ignore", invalid="ignore"):  # found out by the sums
                squares = np.square(table, dtype=np.float64).sum(axis=1)
                hadamard(table)
                lengths = np.abs(table).sum(axis=1, dtype=np.float64)
            scales[row : row + len(table)] = _scales(squares, lengths)
            row += len(table)
        packed[...] = np.packbits(np.signbit(work), bitorder="little")

    def _decode(self, encoded: memoryview, values: Floats, factor: np.float32) -> None:
        seed = int.from_bytes(encoded[:8], "little")
        scales, packed = self._split(encoded, values.size)
        signs = _plus_minus(np.unpackbits(packed, bitorder="little"))
        for table in self._tables(signs, values.size):
            hadamard(table)
        signs *= _plus_minus(flips(seed, signs.size))
        values[...] = signs[: values.size]
        _scale(values, scales * factor, self.block)

    def _tables(self, flat: NDArray[Any], count: int) -> tuple[NDArray[Any], ...]:
        at, tables = 0, []
        for rows, columns in self._runs(count):
            tables.append(flat[at : at + rows * columns].reshape(rows, columns))
            at += rows * columns
        return tuple(tables)


class Sign(_Signs):
    """The signs of values, and their mean magnitude."""

    id = CodecId.SIGN

    def __init__(self, block: int = 4096) -> None:
        self.block = block
        self.step = BLOCK // block * block

    def parts(self, count: int) -> tuple[Part, ...]:
        return Part(4 * -(-count // self.block), 4), Part(-(-count // 8), 1)

    def _encode(self, values: Floats, encoded: memoryview, rng: Random) -> None:  # noqa: ARG002 -- rounds to nearest
        scales, packed = self._split(encoded, values.size)
        starts = range(0, values.size, self.block)
        magnitudes = np.abs(values)
        means = [magnitudes[at : at + self.block].mean(dtype=np.float64) for at in starts]
        scales[...] = _finite(np.array(means))
        packed[...] = np.packbits(np.signbit(values), bitorder="little")

    def _decode(self, encoded: memoryview, values: Floats, factor: np.float32) -> None:
        scales, packed = self._split(encoded, values.size)
        values[...] = _plus_minus(np.unpackbits(packed, bitorder="little", count=values.size))
        _scale(values, scales * factor, self.block)


def _plus_minus(bits: NDArray[np.uint8]) -> NDArray[np.int16]:
    signs = bits.astype(np.int16)
    signs *= -2
    signs += 1
    return signs


def _scale(values: Floats, scales: Floats, block: int) -> None:
    whole = values.size // block
    table = values[: whole * block].reshape(whole, block)
    np.multiply(table, scales[:whole, None], out=table)
    values[whole * block :] *= scales[whole:]


def _scales(squares: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    _finite(lengths)
    return _finite(np.divide(squares, lengths, out=np.zeros_like(squares), where=lengths > 0))


def _finite(scales: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same; PayloadError if one is NaN or too large for what is multiplied by it."""
    if not (scales <= _MAX_SCALE).all():
        raise PayloadError(Cause.NOT_FINITE, NOT_FINITE)
    return scales
