"""What can go wrong in a worker, said in one line that names the place and the remedy.

MusterError
├── ConfigError      the task can't be found, or its configuration can't be read: spec.task has to change
├── DataError        a data file or directory is missing or isn't what it should be
├── TaskError        the task's code raised, or its training went wrong
├── RelayError       the folder that leads to the coordinator isn't there
├── CredentialError  a certificate, key or join bundle of this worker's can't be used
├── SiteError        the ranks of one site can't work together as they were started
├── RankLostError    a rank of this site is gone, so the others can't go on
├── RefusedError     the coordinator won't have this worker: a wrong token, pool or version
│   └── StaleCertificateError    its certificate no longer holds: a newer one may help, if there is any
└── ConnectionBrokenError    the coordinator can't be reached right now
    └── SessionLostError     it can, and doesn't know this session any more
"""

from __future__ import annotations


class MusterError(Exception):
    """The base of everything that Muster's worker raises on purpose."""


class ConfigError(MusterError):
    """The task can't be found, or its configuration can't be read."""


class DataError(MusterError):
    """A data file or directory is missing, or isn't what it should be."""


class RelayError(MusterError):
    """The folder that leads to the coordinator isn't there, or can't be written to."""


class TaskError(MusterError):
    """The task's own code raised, or its training went wrong."""


class CredentialError(MusterError):
    """A certificate, key or join bundle of this worker's can't be used: the message names it and the remedy."""


class SiteError(MusterError):
    """The ranks of one site can't work together as they were started."""


class RankLostError(MusterError):
    """A rank of this site is gone, and what it had: the others can't go on, and are started again with it."""


class RefusedError(MusterError):
    """The coordinator won't have this worker, and asking again would change nothing."""


class StaleCertificateError(RefusedError):
    """By the coordinator's clock this worker's certificate no longer holds."""


class ConnectionBrokenError(MusterError):
    """The coordinator can't be reached or the connection broke: trying again may help."""


class SessionLostError(ConnectionBrokenError):
    """The coordinator doesn't know this session any more: join again."""
