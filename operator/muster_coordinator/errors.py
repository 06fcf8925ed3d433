"""What can go wrong in a coordinator, as people are told of it.

CoordinatorError
├── InputError        the job, a flag, a path: one line, exit code 2
│   ├── StorageError  the storage directory can't be read, written or trusted
│   │   └── DiskError the disk doesn't take a write now, a full one say: exit code 74, since it may later
│   └── WrongJobError  the directory holds another job's history, or this job's with another specification
├── CommitLost        another coordinator has taken this storage over: exit code 3
├── NoRoomError       a transfer has to wait for others, or make way for them: its client asks again
├── NoAnswer          the API server didn't do what it was asked to; rounds go on
└── JobGone           the job isn't in the cluster any more; rounds go on until somebody stops them
"""

from __future__ import annotations


class CoordinatorError(Exception):
    """The base of every error that Muster's coordinator raises on purpose."""


class InputError(CoordinatorError):
    """Something outside has to be put right before this coordinator can start: the message says what."""


class StorageError(InputError):
    """The storage directory can't be used, or what is in it can't be trusted."""


class DiskError(StorageError):
    """The disk doesn't take what has to be written now. Once somebody has made room the job can go on."""


class WrongJobError(InputError):
    """The storage directory belongs to another job, or to this one with another specification."""


class CommitLost(CoordinatorError):  # noqa: N818 - what happened, and what the contract of the store calls it
    """Another coordinator has committed this round, or has taken this storage over: this one must leave."""


class NoRoomError(CoordinatorError):
    """A transfer has to wait, or to make way for others that do. Nothing of it is lost: it goes on at its offset."""


class NoAnswer(CoordinatorError):  # noqa: N818 - says what happened
    """A request to the API server wasn't carried out. Trying again may help; `after_s` is what the server asks for."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


class JobGone(CoordinatorError):  # noqa: N818 - says what happened
    """There is no such job in the cluster any more, or another one of its name."""
