"""How fast updates are added up, beside numpy's own `a += x` on as many bytes and beside a plain copy of memory.

Each codec's weighted accumulation and its validation are timed apart, interleaved with numpy's in every repetition, so
that a busy machine slows all of them alike. The figures are medians of ratios within one repetition.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np

from muster_wire import payload
from muster_wire.codecs import CODECS, CodecId
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.payload import PayloadKind, Shape
from muster_wire.values import Values

WEIGHT = 0.37  # not 1, which has a shortcut


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def update_of(size: int) -> Values:
    """Small numbers around zero, as updates are."""
    layout = Layout((TensorSpec("weight", (size,), "float32", Kind.TRAINABLE),))
    values = Values.zeros(layout, frozen=False)
    values.trainable[:] = np.random.default_rng(0).normal(0, 0.01, size)
    return values


def workloads(update: Values) -> dict[str, Callable[[], object]]:
    """What is timed, by name; every one goes over the same number of values."""
    total, copied = Values.zeros(update.layout, frozen=False), np.empty_like(update.trainable)
    total.trainable.fill(1.0)  # its pages are there before the clock runs

    def numpy_add() -> None:
        total.trainable.__iadd__(update.trainable)

    work: dict[str, Callable[[], object]] = {"numpy": numpy_add, "copy": lambda: np.copyto(copied, update.trainable)}
    copied.fill(0)
    for codec in CODECS:
        work |= _of_codec(codec, update, total)
    return work


def _of_codec(codec: CodecId, update: Values, total: Values) -> dict[str, Callable[[], object]]:
    shape = Shape(update.layout, PayloadKind.UPDATE, codec)
    encoded = payload.encode_update(update, codec)
    name = codec.name.lower().replace("float", "f")
    return {
        name: lambda: payload.accumulate(shape, encoded, total, WEIGHT),
        f"{name}_check": lambda: payload.check(shape, encoded),
    }


def main() -> None:
    """Time everything a few times, in turn, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200, help="of float32 values")
    parser.add_argument("--repetitions", type=int, default=7)
    options = parser.parse_args()
    update = update_of(options.megabytes * 2**20 // 4)
    work = workloads(update)
    laps = [{name: seconds(step) for name, step in work.items()} for _ in range(options.repetitions + 1)][1:]
    ratios = {name: statistics.median(lap["numpy"] / lap[name] for lap in laps) for name in work}
    for name in work:
        gigabytes = update.trainable.nbytes / 1e9 / statistics.median(lap[name] for lap in laps)
        print(f"{name:12} {gigabytes:6.2f} GB/s of float32 values   {ratios[name]:5.2f} of numpy's a += x")
    print(json.dumps({f"{name}_vs_numpy": round(ratio, 3) for name, ratio in ratios.items() if name != "numpy"}))


if __name__ == "__main__":
    main()
