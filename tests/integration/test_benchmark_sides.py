"""The sides of the transport benchmark that are ours still run: what they borrow from the worker moves on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SIDES = Path(__file__).parents[2] / "benchmarks" / "transports"


@pytest.mark.parametrize("side", ["muster", "muster_mtls", "grpc", "tcp"])
def test_models_go_round(side):
    command = [sys.executable, SIDES / f"{side}_side.py", "2", "100000", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout.splitlines()[-1])["seconds"]) == 2
