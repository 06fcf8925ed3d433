"""Small files that are there whole or not at all, also after a power cut, and names of files that last as long."""

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
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
