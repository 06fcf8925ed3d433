"""Generates protos/muster_wire/v1 from the .proto: messages, service and their types.

`make proto` runs it, and a contract test runs it into an empty folder and compares, so that what is committed is always
what this writes.
"""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent.parent / "protos"


def generate(out: Path) -> None:
    """Writes `muster_wire/v1/*_pb2.py`, `*_pb2_grpc.py` and `*_pb2.pyi` under `out`."""
    sources = sorted(path.relative_to(PROTOS).as_posix() for path in PROTOS.glob("muster_wire/v*/*.proto"))
    well_known = resources.files("grpc_tools") / "_proto"
    outputs = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(["protoc", f"-I{PROTOS}", f"-I{well_known}", *outputs, *sources]):
        sys.exit("scripts/generate_protos.py: protoc failed; its own words are above")


if __name__ == "__main__":
    generate(PROTOS)
