"""The External pools of a job: their workers enrol with a certificate of the pool, which an authority of its own made.

A pool is a trust domain. Its authority vouches for its workers and for nobody else: so what TLS has let in is held
against the very authority that the identity's realm belongs to (`is_issued_by`), and a pool's certificate is good for
one call here, Enrol, which makes it one of this job's. What came of it is remembered as that pool's, so that revoking
the pool turns both away.

Authorities are files that may change; whether a pool is revoked is said by whoever watches it (poolwatch.py).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from muster_spec.types import ResolvedJob
from muster_wire.errors import TrustError
from muster_wire.trust.authority import SKEW_S
from muster_wire.trust.certificate import Certificate, is_issued_by
from muster_wire.trust.files import NamedFile, Watched, read_authorities
from muster_wire.trust.identity import Identity, Role

log = logging.getLogger("muster.coordinator")

FLAG = "--pool-authorities"
CLOCKS_S = 30.0  # by which those of operator, lobby and coordinator may differ
is_made_by = lru_cache(maxsize=4096)(is_issued_by)
"""The same, remembered: it is asked at every call."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a pool's credentials count: not while it is revoked, and none made before `since` (Unix time)."""

    is_revoked: bool = False
    since: float = 0.0

    def refuses(self, certificate: Certificate) -> bool:
        """Whether this certificate, of the pool or made from one of the pool's, is turned away."""
        return self.is_revoked or certificate.not_before + SKEW_S + CLOCKS_S < self.since


@dataclass(frozen=True, slots=True)
class ExternalPool:
    """One of them. `realm` is the pool's uid; `authority` the file of who vouches for its workers."""

    name: str
    realm: str
    authority: Path

    def speaks_in(self, identity: Identity) -> bool:
        """Whether an identity of the pool's realm is a worker of it."""
        return (identity.role, identity.realm, identity.pool) == (Role.WORKER, self.realm, self.name)


@dataclass
class ExternalPools:
    """Those of one job. Belongs to the server's loop, but for `roots`, which grpc's threads ask for."""

    pools: tuple[ExternalPool, ...] = ()
    _standings: dict[str, Standing] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._by_realm: Mapping[str, ExternalPool] = {pool.realm: pool for pool in self.pools}
        self._by_name: Mapping[str, ExternalPool] = {pool.name: pool for pool in self.pools}
        self._authorities = {
            pool.name: AuthorityFile((f"{FLAG} for pool {pool.name}:", pool.authority)) for pool in self.pools
        }

    def __bool__(self) -> bool:
        return bool(self.pools)

    def of_realm(self, realm: str) -> ExternalPool | None:
        return self._by_realm.get(realm)

    def of_name(self, name: str) -> ExternalPool | None:
        return self._by_name.get(name)

    @property
    def files(self) -> list[Path]:
        """Where authorities are, or will be."""
        return [pool.authority for pool in self.pools]

    def roots(self) -> bytes:
        """All authorities that are there now, for TLS."""
        return b"".join(authority.current() for authority in self._authorities.values())

    def vouches(self, pool: ExternalPool, certificate: Certificate) -> bool:
        """Whether the pool's own authority made this certificate."""
        authority = self._authorities[pool.name].current()
        return bool(authority) and is_made_by(certificate.pem, authority)

    def stand(self, name: str, standing: Standing) -> None:
        """A pool's credentials count so from now on."""
        if self._standings.get(name, Standing()) != standing:
            words = "is revoked" if standing.is_revoked else f"counts with what was made since {standing.since:.0f}"
            log.warning("External pool %s %s", name, words)
        self._standings[name] = standing

    def standing(self, name: str) -> Standing:
        return self._standings.get(name, Standing())


class AuthorityFile:
    """A file that may not be there yet. One that can't be read any more leaves what was read before."""

    def __init__(self, file: NamedFile) -> None:
        self._file = file
        self._watched = Watched([file[1]])
        self._content = self._read()

    def current(self) -> bytes:
        if self._watched.changed():
            self._content = self._read() or self._content
        return self._content

    def _read(self) -> bytes:
        if not self._file[1].exists():
            return b""
        try:
            return read_authorities(self._file)
        except TrustError as error:
            log.error("%s", error.reason)  # noqa: TRY400 -- one plain line
            return b""


def read_external(job: ResolvedJob, folder: Path | None) -> ExternalPools:
    """The External pools of a job that have credentials of their own: in that folder, `<pool>.crt` for each."""
    if folder is None:
        return ExternalPools()
    return ExternalPools(
        tuple(
            ExternalPool(pool.name, pool.uid, folder / f"{pool.name}.crt")
            for pool in job.pools
            if pool.spec.type == "External" and pool.uid
        )
    )
