"""The near end of a relay through a shared folder, a process of its own: the bridge waits, this has traffic to carry.

``python -m muster_slurm.folder FOLDER HOST:PORT`` says "listening FOLDER" once it carries, and ends with its standard
input: whoever started it is gone.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from muster_telemetry.address import parse_address
from muster_wire.relay import NearEnd

FAILED = 1


def main(arguments: Sequence[str]) -> int:
    """Carry until standard input ends; the exit code."""
    folder, address = Path(arguments[0]), parse_address(arguments[1])
    over = threading.Event()
    try:
        threading.Thread(target=_outlive_nobody, args=(over,), daemon=True).start()
        with NearEnd(folder, address) as end:
            print(f"listening {folder}", flush=True)
            end.run(over)
    except OSError as error:
        print(f"{folder}: {error.strerror}", file=sys.stderr, flush=True)
        return FAILED
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _outlive_nobody(over: threading.Event) -> None:
    while os.read(0, 4096):
        continue
    over.set()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
