"""Runs every benchmark of this folder, or the one that is named: ``benchmarks/run.py [NAME]``.

Each is a script of its own that ends with one JSON object on a line; here they run one after another, in processes of
their own, so that none warms up or crowds out the next. One that can't find what it needs says so and exits with 77.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SKIPPED = 77
SCRIPTS = {"operator": "operator_scale"}  # a script operator.py would hide the standard library's from all others
NOT_BENCHMARKS = {"run", "muster_runs", "soak"}  # a soak takes an hour: make soak


def names() -> list[str]:
    """Every benchmark there is."""
    found = {script.stem for script in HERE.glob("*.py")} - NOT_BENCHMARKS - set(SCRIPTS.values())
    return sorted(found | SCRIPTS.keys())


def main() -> int:
    """Run what was asked for; the worst exit code."""
    wanted = sys.argv[1:] or names()
    unknown = sorted(set(wanted) - set(names()))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(names())}", file=sys.stderr)
        return 2
    return max(run(name) for name in wanted)


def run(name: str) -> int:
    """Run one benchmark; 0 if it ended well or was skipped."""
    print(f"== {name}", flush=True)
    code = subprocess.run([sys.executable, HERE / f"{SCRIPTS.get(name, name)}.py"], check=False).returncode
    return 0 if code == SKIPPED else code


if __name__ == "__main__":
    sys.exit(main())
