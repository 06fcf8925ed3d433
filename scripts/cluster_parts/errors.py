"""What can go wrong, in words that name the remedy. The command prints them and nothing else.

ClusterError            something failed (exit code 1)
└── UnavailableError    this machine has nothing to make a cluster of (exit code 3; tests skip on it)
"""


class ClusterError(Exception):
    """A failure whose text tells the reader what happened and what to do."""

    exit_code = 1


class UnavailableError(ClusterError):
    """There is no Go, no binaries and no existing cluster."""

    exit_code = 3
