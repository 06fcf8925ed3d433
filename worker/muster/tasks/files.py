"""Reading the files of a data directory, with errors that say which file, what is wrong, and what to do."""

from __future__ import annotations

from pathlib import Path

from muster.errors import DataError


def data_file(data_dir: Path | None, name: str, remedy: str) -> Path:
    """Where a file of the client's data directory should be.

    Raises:
        DataError: there is no such directory.
    """
    if data_dir is None:
        raise DataError(
            f"this task reads {name} from a data directory: {remedy}, by --data or the pool's spec.data.path"
        )
    if not data_dir.is_dir():
        raise DataError(f"{data_dir}: no such data directory; {remedy}")
    return data_dir / name


def read_bytes(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        DataError: it can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from error


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        DataError: it can't be read, or isn't text.
    """
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not a text file") from error
