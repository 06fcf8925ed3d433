"""Who is no longer welcome: certificates and identities that people have put on a list, in a file that is read again.

One entry a line; `#` begins a comment:

    5f3a…09                 a serial, in hexadecimal (as openssl prints it): this certificate, and all that came of
                            enrolling with it
    muster://<uid>/<pool>   every certificate of this pool, those that may only enrol included; with the uid of an
                            External pool, all that came of its credentials as well
    muster://<uid>/<pool>/3 every certificate for exactly these clients

A list that can't be read when it changes leaves the one before in force, and says so: forgetting who was denied would
be worse.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from muster_coordinator.errors import InputError
from muster_wire.errors import TrustError
from muster_wire.trust.certificate import Certificate
from muster_wire.trust.files import Watched, read_file
from muster_wire.trust.identity import Identity, parse_identity

log = logging.getLogger("muster.coordinator")

FLAG = "--deny-list"


@dataclass(frozen=True, slots=True)
class Denied:
    """What is on the list."""

    serials: frozenset[int] = frozenset()
    identities: frozenset[Identity] = frozenset()

    def refuses(self, certificate: Certificate, also: Identity | None = None) -> bool:
        """Whether this certificate, what it came from, or whom it names is on the list; or who it is `also`."""
        name = certificate.identity.as_worker()
        pool = Identity(name.role, name.realm, name.pool)
        return bool(self.serials & {certificate.serial, certificate.origin} or self.identities & {name, pool, also})


def parse_deny_list(text: str) -> Denied:
    """Raises TrustError that names the line."""
    serials, identities = set(), set()
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.partition("#")[0].strip()
        try:
            if "://" in entry:
                identities.add(parse_identity(entry).as_worker())
            elif entry:
                serials.add(_serial(entry))
        except TrustError as error:
            raise TrustError(f"line {number}: {error.reason}") from error
    return Denied(frozenset(serials), frozenset(identities))


def _serial(entry: str) -> int:
    digits = entry.replace(":", "")
    if not re.fullmatch(r"[0-9A-Fa-f]{1,40}", digits):
        raise TrustError(f"{entry[:80]!a} is neither a serial in hexadecimal nor an identity (muster://…)")
    return int(digits, 16)


class DenyList:
    """The list as the file has it now."""

    def __init__(self, path: Path | None) -> None:
        """Raises InputError when there is a path and no list there to begin with."""
        self._path = path
        self._watched = Watched([path] if path else [])
        self._denied = Denied()
        if path:
            try:
                self._denied = _read(path)
            except TrustError as error:
                raise InputError(error.reason) from error

    def refuses(self, certificate: Certificate, also: Identity | None = None) -> bool:
        """Whether it is denied at this moment; or an External pool that it came from."""
        if self._path and self._watched.changed():
            self._reload(self._path)
        return self._denied.refuses(certificate, also)

    def _reload(self, path: Path) -> None:
        try:
            self._denied = _read(path)
        except TrustError as error:
            log.error("%s; what was denied before still is", error.reason)  # noqa: TRY400 -- one plain line
        else:
            log.info("%s %s: %d entries", FLAG, path, len(self._denied.serials) + len(self._denied.identities))


def _read(path: Path) -> Denied:
    try:
        return parse_deny_list(read_file((FLAG, path)).decode())
    except UnicodeDecodeError as error:
        raise TrustError(f"{FLAG} {path}: not text in UTF-8") from error
    except TrustError as error:
        reason = error.reason if str(path) in error.reason else f"{FLAG} {path}: {error.reason}"
        raise TrustError(reason) from error
