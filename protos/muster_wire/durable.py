"""Files that are there whole or not at all, also after a power cut: what a worker keeps for later."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, *content: bytes | memoryview, mode: int = 0o666) -> None:
    """Write aside, make durable, rename over whatever was there, make the name durable. `mode` is less the umask."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as target:
        target.writelines(content)
        target.flush()
        os.fsync(target.fileno())
    aside.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
