"""What can be wrong with bytes that came over a wire.

::

    WireError
    ├── LayoutError     a description of tensors that is malformed, too large, or not the one expected
    ├── PayloadError    an encoded model or update that doesn't hold what it should
    ├── FrameError      a piece of a transfer that is damaged, misplaced or too long
    ├── VersionError    a peer that speaks another protocol
    └── TrustError      a certificate, key, join bundle or identity that can't be believed or used

Everything that this package raises because of what a peer sent is one of these, with a sentence for people. The first
three also carry the cause that a coordinator answers with.
"""

from __future__ import annotations

from enum import IntEnum


class Cause(IntEnum):
    """Why an update is refused; the same numbers as `Verdict.Cause` in the .proto."""

    LATE = 1
    UNKNOWN_ASSIGNMENT = 2
    MALFORMED = 3
    WRONG_LAYOUT = 4
    NOT_FINITE = 5
    NORM = 6
    TOO_LARGE = 7
    NOT_YOURS = 8


class WireError(Exception):
    """The base of everything that is wrong with a peer's bytes."""

    def __init__(self, reason: str, cause: Cause = Cause.MALFORMED) -> None:
        super().__init__(reason)
        self.reason = reason
        self.cause = cause


class LayoutError(WireError):
    """A layout that can't be a model's, or isn't the one that was expected."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, Cause.WRONG_LAYOUT)


class PayloadError(WireError):
    """An encoded model or update that doesn't hold what it should."""

    def __init__(self, cause: Cause, reason: str) -> None:
        super().__init__(reason, cause)


class FrameError(WireError):
    """A piece of a transfer that is damaged, misplaced or too long."""


class VersionError(WireError):
    """A peer that speaks another protocol version."""


class TrustError(WireError):
    """A certificate, key, join bundle or identity that can't be believed, or can't be used."""
