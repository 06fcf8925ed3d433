"""An object store behind a few verbs: what is durable there is the truth, and one name can be taken only once.

Any address that fsspec knows will do whose store creates conditionally (S3's If-None-Match, a file system's O_EXCL);
whether one does is found out when a coordinator starts, see durable.py. fsspec and what it needs of a store's own
libraries are imported only where a job asks for them. Credentials are the environment's, as each library reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from muster_coordinator.errors import DiskError, StorageError

_AT_ONCE: Final = 128  # small objects
_FORGETFUL: Final = frozenset({"memory", "dir", "http", "https", "data"})  # nothing lasts there, or nothing is written


class Bucket:
    """A folder of an object store. Keys are relative to it."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._files, self._root = _open(self.url)

    def put(self, key: str, source: Path) -> None:
        """Store a file under a name, in place of whatever has it: large ones go up in parts."""
        with self._patience(f"cannot write {self._named(key)}"):
            self._make_room(key)
            self._files.put_file(str(source), self._path(key))

    def create(self, key: str, content: bytes) -> bool:
        """Store a small object unless its name is taken; whether it is ours that has it now.

        An answer may be lost, and the request be made again by a library below: then our own object is in the way.
        """
        try:
            self._make_room(key)
            self._files.pipe_file(self._path(key), content, mode="create")
        except Exception as error:  # a store's library has errors of its own
            found = self.read([key]).get(key)
            if found is None:
                raise DiskError(f"cannot create {self._named(key)}: {_reason(error)}") from error
            return found == content
        return True

    def read(self, keys: Iterable[str]) -> dict[str, bytes]:
        """The content of these objects, without those that are not there."""
        found: dict[str, bytes] = {}
        wanted = list(keys)
        with self._patience(f"cannot read {self.url}"):
            for start in range(0, len(wanted), _AT_ONCE):
                paths = {self._path(key): key for key in wanted[start : start + _AT_ONCE]}
                answers: Mapping[str, Any] = self._files.cat(list(paths), on_error="return")
                found |= {paths[path]: _content(answer) for path, answer in answers.items() if not _is_gone(answer)}
        return found

    def fetch(self, key: str, target: Path) -> bool:
        """Bring an object into a file; whether it was there."""
        try:
            with self._patience(f"cannot read {self._named(key)}"):
                self._files.get_file(self._path(key), str(target))
        except _Gone:
            target.unlink(missing_ok=True)
            return False
        return True

    def names(self) -> list[str]:
        """Everything there is."""
        try:
            with self._patience(f"cannot list {self.url}"):
                paths: list[str] = self._files.find(self._root)
        except _Gone:
            return []
        return sorted(path.removeprefix(self._root).lstrip("/") for path in paths)

    def remove(self, key: str) -> None:
        try:
            with self._patience(f"cannot remove {self._named(key)}"):
                self._files.rm_file(self._path(key))
        except _Gone:
            pass

    def copy(self, key: str, to: str) -> None:
        """The same object under another name as well, without its bytes coming here."""
        with self._patience(f"cannot copy {self._named(key)}"):
            self._files.cp_file(self._path(key), self._path(to))

    # --- names --------------------------------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _named(self, key: str) -> str:
        return f"{self.url}/{key}"

    def _make_room(self, key: str) -> None:
        """Where folders are real, there has to be one; where they aren't, this asks nobody anything."""
        if getattr(self._files, "local_file", False):
            self._files.makedirs(self._path(key).rpartition("/")[0], exist_ok=True)

    @contextmanager
    def _patience(self, what: str) -> Iterator[None]:
        """Stores' libraries try again by themselves; what they give up on may go well for the next coordinator."""
        try:
            yield
        except FileNotFoundError as error:
            raise _Gone(f"{what}: {_reason(error)}") from error
        except Exception as error:
            if isinstance(error, PermissionError) or "Credential" in type(error).__name__:
                raise StorageError(f"{what}: {_reason(error)}: check the credentials and what they allow") from error
            raise DiskError(f"{what}: {_reason(error)}") from error


class _Gone(DiskError):  # noqa: N818 -- says what happened
    """There is no such object, or no such bucket."""


def _open(url: str) -> tuple[Any, str]:
    protocol = url.partition("://")[0]
    if protocol in _FORGETFUL:
        raise StorageError(f"storage {url}: nothing lasts at an address of type {protocol}; take an object store")
    try:
        import fsspec  # only jobs on an object store need it

        files, root = fsspec.core.url_to_fs(url, skip_instance_cache=True, use_listings_cache=False)
    except ImportError as error:
        raise StorageError(
            f"storage {url}: {error}; install muster[url], and for stores other than S3 fsspec's library for {protocol}"
        ) from error
    except (ValueError, OSError) as error:
        raise StorageError(f"storage {url}: {_reason(error)}") from error
    return files, str(root).rstrip("/")


def _is_gone(answer: object) -> bool:
    return isinstance(answer, FileNotFoundError)


def _content(answer: object) -> bytes:
    if isinstance(answer, BaseException):
        raise answer
    if not isinstance(answer, bytes):
        raise TypeError(f"an object's content is bytes, not {type(answer).__name__}")
    return answer


def _reason(error: BaseException) -> str:
    """One line, and never a whole response."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
