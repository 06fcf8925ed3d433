"""What muster_slurm raises.

BridgeError
├── SettingsError   the bridge was started wrongly, or a secret is missing; starting it again ends the same way
├── Away            the coordinator doesn't answer
└── SlurmError      SLURM didn't do what it was asked to
    ├── Refused     it never will: a partition that isn't there, a size that no node has
    ├── Full        not now: a limit on how many jobs may be submitted
    │   └── Limited a limit of the site's policy: on how many, or on what one may ask for, and SLURM doesn't say which
    ├── Oversized   an array with numbers that MaxArraySize forbids
    ├── Denied      the token or key isn't accepted; a renewed one may be
    └── Unreachable no answer, or one that says that slurmctld gave none: it may have been carried out all the same
"""

from __future__ import annotations


class BridgeError(Exception):
    """The base of what muster_slurm raises."""


class SettingsError(BridgeError):
    """Something that a person has to put right."""


class Away(BridgeError):  # noqa: N818 - as people say it
    """The coordinator doesn't answer, or not to us."""


class SlurmError(BridgeError):
    """A request that wasn't carried out. `job`: one that was made all the same, and will never run."""

    def __init__(self, message: str, *, job: int = 0) -> None:
        super().__init__(message)
        self.job = job


class Refused(SlurmError):  # noqa: N818 - as people say it
    """It will never be carried out as it is."""


class Full(SlurmError):  # noqa: N818 - as people say it
    """Too many jobs for now."""


class Limited(Full):
    """Too many jobs for now, or too much asked for by one: then it will never be carried out as it is."""


class Oversized(SlurmError):  # noqa: N818 - as people say it
    """Smaller arrays will do."""


class Denied(SlurmError):  # noqa: N818 - as people say it
    """Whoever asked isn't known."""


class Unreachable(SlurmError):  # noqa: N818 - as people say it
    """Nobody knows whether it was carried out."""
