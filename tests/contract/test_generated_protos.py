"""What is committed under protos/ is what scripts/generate_protos.py writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = ("federation_pb2.py", "federation_pb2.pyi", "federation_pb2_grpc.py")


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
