"""Who gets into the lobby: a table of certificates, each held against its own pool's authority."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from muster_coordinator.admission import ENROL
from muster_coordinator.external import AuthorityFile
from muster_coordinator.refusals import Refused
from muster_lobby.door import LobbyAdmission, PoolRoots
from muster_lobby.world import World
from muster_wire.trust.authority import Authority, make_authority
from muster_wire.trust.certificate import Certificate, read_certificate
from muster_wire.trust.identity import Role, name_identity

NOW = 1_800_000_000.0
HOUR = 3600.0
ATTEND = "/muster.wire.v1.Lobby/Enter"
SITE, OTHER, OWN = (make_authority(realm, NOW) for realm in ("p-1", "p-2", "lobby"))


class FixedClock:
    def now(self) -> float:
        return 0.0

    def unix(self) -> float:
        return NOW


def pool(name: str, uid: str, authority: Authority | None, *, revoked: bool = False, since: str = "") -> dict[str, Any]:
    pem = authority.pem.decode() if authority else ""
    return {
        "kind": "ClientPool",
        "metadata": {"name": name, "namespace": "lab", "uid": uid},
        "spec": {"type": "External", "clients": 1, "external": {"revoked": revoked}},
        "status": {"enrolment": {"certificateAuthority": pem, "since": since}},
    }


@pytest.fixture
def world() -> World:
    world = World(lambda _: None)
    for each in (pool("site", "p-1", SITE), pool("other", "p-2", OTHER), pool("new", "p-3", None)):
        world.changed("ClientPool", each, is_gone=False)
    return world


def certificate(authority: Authority, uid: str, name: str, role: Role = Role.WORKER, at: float = NOW) -> Certificate:
    key = authority.key.public_key()
    return read_certificate(authority.certify(key, name_identity(role, uid, name), at, HOUR))


@pytest.mark.parametrize(
    ("given", "method", "words"),
    [
        ((SITE, "p-1", "site"), ATTEND, None),
        ((SITE, "p-1", "site"), ENROL, None),
        ((SITE, "p-1", "site", Role.JOINER), ENROL, None),
        ((SITE, "p-1", "site", Role.JOINER), ATTEND, "may only enrol"),
        ((SITE, "p-2", "other"), ATTEND, "another authority than the pool's"),
        ((OWN, "p-1", "site"), ATTEND, "another authority than the pool's"),
        ((SITE, "p-1", "other"), ATTEND, "no External pool that there is here"),
        ((SITE, "p-9", "site"), ATTEND, "no External pool that there is here"),
        ((SITE, "p-3", "new"), ENROL, "has no authority yet"),
        ((SITE, "p-1", "site", Role.WORKER, NOW - 2 * HOUR), ATTEND, "enrol again"),
    ],
)
def test_who_gets_in(world: World, given: tuple[Any, ...], method: str, words: str | None) -> None:
    refusal = LobbyAdmission(world, FixedClock()).refusal(certificate(*given), method)
    assert (refusal is None) == (words is None), refusal
    assert refusal is None or (words or "") in refusal.reason


def test_revoked_is_revoked_at_once_and_old_credentials_stay_so(world: World) -> None:
    admission = LobbyAdmission(world, FixedClock())
    old, new = certificate(SITE, "p-1", "site"), certificate(SITE, "p-1", "site", at=NOW + 60)
    world.changed("ClientPool", pool("site", "p-1", SITE, revoked=True), is_gone=False)
    for each in (old, new):
        refusal = admission.refusal(each, ATTEND)
        assert refusal is not None
        assert refusal.cause is Refused.REVOKED
    world.changed("ClientPool", pool("site", "p-1", SITE, since="2027-01-15T08:01:00Z"), is_gone=False)
    assert admission.refusal(old, ATTEND) is not None
    assert admission.refusal(new, ATTEND) is None


def test_tls_trusts_the_authorities_of_the_day(world: World, tmp_path: Path) -> None:
    own = tmp_path / "ca.pem"
    own.write_bytes(OWN.pem)
    roots = PoolRoots(world, AuthorityFile(("--tls-ca", own)))
    assert roots.changed()
    assert not roots.changed()
    assert roots.read() == OWN.pem + SITE.pem + OTHER.pem
    world.changed("ClientPool", pool("site", "p-1", SITE), is_gone=True)
    assert roots.changed()
    assert roots.read() == OWN.pem + OTHER.pem
