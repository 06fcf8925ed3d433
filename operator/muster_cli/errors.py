"""What goes wrong on the way from a command line to a finished run, and the exit code that says so.

    CommandError          1   the job failed
    └── BadInput          2   something the user gave is wrong; nothing was started, or nothing was lost
    └── Stopped     130/143   somebody asked us to stop

Every message names the place and the remedy: `main` prints it as it is, without a traceback.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a shell script sees."""

    COMPLETE = 0
    FAILED = 1
    BAD_INPUT = 2
    INTERRUPTED = 130
    TERMINATED = 143


class CommandError(Exception):
    """The base of everything that a command says instead of a traceback."""

    exit_code = ExitCode.FAILED


class BadInput(CommandError):  # noqa: N818 - it names what is wrong
    """Something the user gave can't be used."""

    exit_code = ExitCode.BAD_INPUT
