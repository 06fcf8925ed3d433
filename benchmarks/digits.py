"""examples/digits over five seeds: the accuracy and the time that the README promises."""

from __future__ import annotations

import json

from muster_runs import mean, run_seeds

SEEDS = range(5)
ACCURACY_AT_LEAST = 0.92
SECONDS_AT_MOST = 60.0


def main() -> None:
    """Run, compare with what is promised, close with one JSON object."""
    runs = run_seeds("examples/digits/job.yaml", SEEDS)
    accuracy, seconds = mean(run["accuracy"] for run in runs), max(run["seconds"] for run in runs)
    closing = {
        "benchmark": "digits",
        "seeds": len(runs),
        "accuracy": accuracy,
        "accuracies": [run["accuracy"] for run in runs],
        "pooled": mean(run["baselines"]["pooled"] for run in runs),
        "localOnly": mean(run["baselines"]["localOnly"] for run in runs),
        "secondsMax": seconds,
        "totalSecondsMax": max(run["totalSeconds"] for run in runs),
        "bytesUp": mean(run["bytesUp"] for run in runs),
        "bytesDown": mean(run["bytesDown"] for run in runs),
        "ok": accuracy >= ACCURACY_AT_LEAST and seconds < SECONDS_AT_MOST,
    }
    print(json.dumps(closing))
    raise SystemExit(0 if closing["ok"] else 1)


if __name__ == "__main__":
    main()
