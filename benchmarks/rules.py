"""How long robust rules take to close a round, beside adding the same updates up with numpy's `a += x`.

Updates lie decoded in a file, as the coordinator keeps them; a rule reads them in slices and makes the next model. One
thread for linear algebra, as in the coordinator.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when numpy is imported

import numpy as np

from muster_coordinator.compared import Compared
from muster_coordinator.robust import Rule
from muster_coordinator.robust.centres import CenteredClipping, GeometricMedian
from muster_coordinator.robust.coordinatewise import Median, TrimmedMean
from muster_coordinator.robust.krum import Bulyan, Krum, MultiKrum
from muster_coordinator.strategies import add
from muster_wire.codecs import CodecId
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.payload import PayloadKind, Shape, encode_update
from muster_wire.values import Values

HOSTILE = 2
RULES: tuple[Rule, ...] = (
    Median(),
    TrimmedMean(0.1),
    Krum(HOSTILE),
    MultiKrum(HOSTILE),
    Bulyan(HOSTILE),
    GeometricMedian(10, 1e-6),
    CenteredClipping(None, 5),
)


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def close_round(rule: Rule, encoded: list[memoryview], base: Values, folder: Path) -> float:
    """Seconds from the last update to the next model."""
    rows = Compared(base.layout, rule, None, folder)
    for each in encoded:
        rows.fold_payload(Shape(base.layout, PayloadKind.UPDATE, CodecId.FLOAT32), each)
    return seconds(lambda: rows.finish(base, add))


def main() -> int:
    """Time every rule a few times, beside numpy each time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--megabytes", type=int, default=25)
    parser.add_argument("--repetitions", type=int, default=5)
    given = parser.parse_args()
    size = given.megabytes * 1_000_000 // 4
    base = Values.zeros(Layout((TensorSpec("weight", (size,), "float32", Kind.TRAINABLE),)))
    encoded, rng = [], np.random.default_rng(0)
    for _ in range(given.clients):
        update = Values.zeros(base.layout, frozen=False)
        update.trainable[:] = rng.standard_normal(size, np.float32)
        encoded.append(encode_update(update, CodecId.FLOAT32))
    total = np.ones(size, np.float32)
    laps: dict[str, list[float]] = {rule.name: [] for rule in RULES}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(given.repetitions):
            for rule in RULES:
                plain = given.clients * seconds(lambda: total.__iadd__(update.trainable))
                laps[rule.name].append(close_round(rule, encoded, base, Path(folder)) / plain)
    ratios = {name: round(statistics.median(found), 1) for name, found in laps.items()}
    for name, ratio in ratios.items():
        print(f"{name:18} {ratio:6.1f} times as long as numpy's a += x over the same updates")
    print(json.dumps({f"{name}_times_numpy": ratio for name, ratio in ratios.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
