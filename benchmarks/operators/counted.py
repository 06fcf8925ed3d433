"""An operator process that writes down each of its requests, with the time: `MONOTONIC METHOD PATH`.

python counted.py NAMESPACE FILE
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from pathlib import Path

from muster_operator.__main__ import operate
from muster_operator.connection import find_connection
from muster_operator.settings import Install, Settings


async def main(namespace: str, path: Path) -> int:
    """Operate until told to stop."""
    settings = Settings(
        install=Install(coordinator_image="coordinator:1", worker_image="worker:1"),
        lease_namespace=namespace,
        identity="benchmark",
        namespaces=(namespace,),
        probe_port=int(os.environ.get("MUSTER_PROBE_PORT", "18080")),
    )
    connection = find_connection(os.environ)
    with path.open("a", buffering=1) as file:

        def note(moment: str, method: str, path: str) -> None:
            if moment == "before":
                file.write(f"{time.monotonic():.4f} {method} {path}\n")

        return await operate(settings, connection, note)


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    sys.exit(asyncio.run(main(sys.argv[1], Path(sys.argv[2]))))
