"""What each codec and each preset costs and saves: bytes, relative error, and speed beside a copy of memory.

Two kinds of update: Gaussian, and one that looks like a real one (Student's t with three degrees of freedom, each
tensor on its own scale, a tenth of the values exactly zero). Speeds are gigabytes of float32 values a second, timed in
turn with a plain copy and with numpy's `a += x` in every repetition; what is printed are medians, and medians of
ratios within one repetition. Errors are ‖decoded − values‖ / ‖values‖ of one update, without error feedback. The
lossless stage is also compared with the entropy of what it packs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from muster_wire.codecs import CodecId, Pipeline
from muster_wire.feedback import Memory, Recipe, encode
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.presets import PRESETS
from muster_wire.selection import Choice, choose
from muster_wire.values import Floats, Values

WEIGHT = 0.37  # not 1, which has a shortcut
TENSORS = 32


@dataclass(frozen=True, slots=True)
class Case:
    """A pipeline, and how its values are chosen."""

    name: str
    pipeline: Pipeline
    choice: Choice


def cases() -> Iterator[Case]:
    """Every number codec alone and packed, and top-k by several shares."""
    for numbers in CodecId:
        if numbers not in (CodecId.SPARSE, CodecId.LOSSLESS):
            for pipeline in (Pipeline(numbers), Pipeline(numbers, lossless=True)):
                yield Case(pipeline.name, pipeline, Choice())
    for share in (0.001, 0.01, 0.1):
        for numbers in (CodecId.FLOAT16, CodecId.INT4, CodecId.SIGN):
            pipeline = Pipeline(numbers, sparse=True, lossless=True, block=64 if numbers >= CodecId.INT8 else 0)
            yield Case(f"top{share:g}+{pipeline.name}", pipeline, Choice(share))


def layout_of(size: int) -> Layout:
    """A model of equal tensors."""
    return Layout(tuple(TensorSpec(f"w{i}", (size // TENSORS,), "float32", Kind.TRAINABLE) for i in range(TENSORS)))


def updates(size: int) -> dict[str, Floats]:
    """By name; the same every time."""
    rng = np.random.default_rng(0)
    gaussian = rng.normal(0, 0.01, size).astype(np.float32)
    heavy = rng.standard_t(3, size).reshape(TENSORS, -1) * 10 ** rng.uniform(-3.5, -1.5, (TENSORS, 1))
    heavy[rng.random(heavy.shape) < 0.1] = 0
    return {"gaussian": gaussian, "heavy": heavy.astype(np.float32).ravel()}


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(case: Case, values: Floats, layout: Layout, repetitions: int) -> dict[str, float]:
    """Bytes for each byte of float32, error, and speeds."""
    codec, rng = case.pipeline.codec, np.random.default_rng(1)
    chosen = choose(values, layout, case.choice, rng)
    encoded, decoded = codec.encode(chosen, rng), np.empty_like(values)
    codec.decode_into(encoded, decoded)
    total, copied = np.ones_like(values), np.zeros_like(values)
    work: dict[str, Callable[[], object]] = {
        "copy": lambda: np.copyto(copied, values),
        "add": lambda: np.add(total, values, out=total),
        "choose": lambda: choose(values, layout, case.choice, rng),
        "encode": lambda: codec.encode(chosen, rng),
        "check": lambda: codec.check(encoded, values.size),
        "decode": lambda: codec.decode_into(encoded, decoded),
        "accumulate": lambda: codec.accumulate(encoded, total, WEIGHT),
    }
    laps = [{name: seconds(step) for name, step in work.items()} for _ in range(repetitions + 1)][1:]
    speeds = {name: values.nbytes / 1e9 / statistics.median(lap[name] for lap in laps) for name in work}
    return {
        "bytes": len(encoded) / values.nbytes,
        "error": float(np.linalg.norm(decoded - values) / np.linalg.norm(values)),
        **{f"{name}_gb_s": speed for name, speed in speeds.items()},
        "encode_vs_copy": statistics.median(lap["copy"] / lap["encode"] for lap in laps),
        "accumulate_vs_copy": statistics.median(lap["copy"] / lap["accumulate"] for lap in laps),
        "accumulate_vs_add": statistics.median(lap["add"] / lap["accumulate"] for lap in laps),
    }


def feed(recipe: Recipe, values: Floats, layout: Layout, rounds: int = 10) -> dict[str, float]:
    """An update that comes again and again, with a little noise: bytes, and the error of the sum of what arrived."""
    rng, memory = np.random.default_rng(2), Memory.empty()
    empty = Values.zeros(layout, frozen=False)
    trained, arrived, sizes = np.zeros(values.size), np.zeros(values.size), []
    for _ in range(rounds):
        noisy = values + rng.permutation(values)
        update = Values(layout, noisy, empty.float_buffers, empty.integers, empty.frozen)
        encoded = encode(update, recipe, memory, rng)
        memory = encoded.memory
        trained += noisy
        arrived += encoded.decoded.trainable
        sizes.append(len(encoded.payload))
    return {
        "bytes": statistics.median(sizes) / values.nbytes,
        "first_bytes": sizes[0] / values.nbytes,
        "error_of_sum": float(np.linalg.norm(arrived - trained) / np.linalg.norm(trained)),
    }


def entropy_bits(values: Floats, numbers: CodecId) -> float:
    """Of the symbols of a quantised update, a value: what no lossless stage without a model of them goes below."""
    pipeline = Pipeline(numbers)
    decoded = np.empty_like(values)
    pipeline.codec.decode_into(pipeline.codec.encode(values, np.random.default_rng(1)), decoded)
    table = decoded[: values.size // pipeline.block * pipeline.block].reshape(-1, pipeline.block)
    steps = np.abs(np.where(table == 0, np.inf, table)).min(axis=1, keepdims=True)
    steps[~np.isfinite(steps)] = 1
    counts = np.unique(np.rint(table / steps), return_counts=True)[1] / table.size
    return float(-(counts * np.log2(counts)).sum())


def main() -> None:
    """Measure everything and print a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=64, help="of float32 values")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    size = options.megabytes * 2**20 // 4 // TENSORS * TENSORS
    layout, results = layout_of(size), {}
    for kind, values in updates(size).items():
        print(
            f"{kind:34} {'bytes':>7} {'error':>7} {'encode':>7} {'check':>7} {'decode':>7} {'accum.':>7} GB/s  vs a+=x"
        )
        for case in cases():
            row = measure(case, values, layout, options.repetitions)
            results[f"{kind}/{case.name}"] = row
            columns = (f"{row[f'{name}_gb_s']:7.2f}" for name in ("encode", "check", "decode", "accumulate"))
            print(
                f"{case.name:34} {row['bytes']:7.4f} {row['error']:7.4f}", *columns, f"{row['accumulate_vs_add']:12.2f}"
            )
        for name, preset in PRESETS.items():
            row = feed(preset.up, values, layout)
            results[f"{kind}/preset-{name}"] = row
            print(f"preset {name:27} {row['bytes']:7.4f} {row['error_of_sum']:7.4f}  after ten updates")
        for numbers in (CodecId.INT8, CodecId.INT4):
            packed = results[f"{kind}/{Pipeline(numbers, lossless=True).name}"]["bytes"] * 32
            print(f"{numbers.name.lower()}: {packed:.3f} bits packed, entropy {entropy_bits(values, numbers):.3f}")
    print(json.dumps({name: {key: round(x, 5) for key, x in row.items()} for name, row in results.items()}))


if __name__ == "__main__":
    main()
