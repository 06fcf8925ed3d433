"""examples/heart over ten seeds: FedAvg beside pooled training on the same splits, one hospital a client.

Needs the four UCI files: in $MUSTER_DATA/heart, or in ../shared/data/heart beside the checkout.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from muster_runs import ROOT, mean, run_seeds

SEEDS = range(10)
POINTS_AT_MOST = 0.01
SKIPPED = 77


def main() -> None:
    """Run, compare with pooled training, close with one JSON object."""
    data = Path(os.environ.get("MUSTER_DATA", ROOT.parent / "shared" / "data")) / "heart"
    if not data.is_dir():
        print(f"heart: skipped, there is no {data}; set MUSTER_DATA (examples/heart/README.md names the source)")
        sys.exit(SKIPPED)
    runs = run_seeds("examples/heart/job.yaml", SEEDS, f"--data={data}")
    federated, pooled = mean(run["accuracy"] for run in runs), mean(run["baselines"]["pooled"] for run in runs)
    closing = {
        "benchmark": "heart",
        "seeds": len(runs),
        "federated": federated,
        "pooled": pooled,
        "localOnly": mean(run["baselines"]["localOnly"] for run in runs),
        "points": round(100 * (federated - pooled), 3),
        "ok": federated >= pooled - POINTS_AT_MOST,
    }
    print(json.dumps(closing))
    raise SystemExit(0 if closing["ok"] else 1)


if __name__ == "__main__":
    main()
