"""What muster_operator raises.

OperatorError
├── SettingsError      the environment or a credential file can't be used
└── ApiError           the API server refused a request, or couldn't be reached
    ├── NotFound       there is no such object
    ├── Conflict       it exists already, or is not what we took it for
    └── TryLater       the server is busy, restarting or out of reach
"""

from __future__ import annotations


class OperatorError(Exception):
    """The base of what muster_operator raises."""


class SettingsError(OperatorError):
    """The operator was started wrongly."""


class ApiError(OperatorError):
    """The API server's answer to a request that it didn't carry out. Status 0: there was no answer."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        self.status = status
        self.reason = reason
        self.message = message
        super().__init__(f"{status} {reason}: {message}" if status else message)


class NotFound(ApiError):  # noqa: N818 - as Kubernetes calls it
    """There is no such object."""


class Conflict(ApiError):  # noqa: N818 - as Kubernetes calls it
    """It exists already, or changed since it was read."""


class TryLater(ApiError):  # noqa: N818 - says what to do
    """The server is busy or out of reach: the same request may succeed later. `after_s` is its own wish."""

    def __init__(self, status: int, reason: str, message: str, after_s: float | None = None) -> None:
        super().__init__(status, reason, message)
        self.after_s = after_s
