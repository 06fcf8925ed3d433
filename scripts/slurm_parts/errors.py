"""What can go wrong, in words that name the remedy.

SlurmError              something failed (exit code 1)
└── UnavailableError    this machine can't run SLURM as it is (exit code 3; tests skip on it)
"""


class SlurmError(Exception):
    """A failure whose text tells the reader what happened and what to do."""

    exit_code = 1


class UnavailableError(SlurmError):
    """No packages, or not root."""

    exit_code = 3
