"""What is committed under protos/ is what scripts/generate_protos.py writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = [f"{name}_pb2{end}" for name in ("federation", "lobby") for end in (".py", ".pyi", "_grpc.py")]


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from generate_protos import generate; generate(Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, tmp_path],
        env={"PYTHONPATH": str(ROOT / "scripts")},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout + done.stderr == ""
    written = {
        path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert sorted(written) == sorted(f"muster_wire/v1/{name}" for name in GENERATED)
    for name, text in written.items():
        assert (ROOT / "protos" / name).read_text() == text, f"{name} is out of date: run `make proto`"
