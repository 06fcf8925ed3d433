"""Who may call what at a job's coordinator: its own workers, those of its External pools, and nobody else."""

import msgspec
import pytest

from muster_coordinator.admission import ENROL, JobAdmission
from muster_coordinator.denylist import DenyList
from muster_coordinator.external import Standing, read_external
from muster_coordinator.poolwatch import standing_of
from muster_coordinator.refusals import Refused
from muster_spec.types import ResolvedPool
from muster_wire.trust.authority import SKEW_S, make_authority
from muster_wire.trust.certificate import read_certificate
from muster_wire.trust.files import write_private
from muster_wire.trust.identity import Role, name_identity

NOW = 1_800_000_000.0
HOUR = 3600.0
JOIN = "/muster.wire.v1.Federation/Join"
JOB, HOSPITAL, OTHER = (make_authority(realm, NOW) for realm in ("job-1", "pool-1", "pool-2"))


class FixedClock:
    def now(self):
        return 0.0

    def unix(self):
        return NOW


@pytest.fixture
def world(tmp_path, resolved_job):
    """Admission to a job with two External pools, and the file that denies."""
    spec = msgspec.structs.replace(resolved_job.pools[0].spec, type="External")
    pools = (*resolved_job.pools, *(ResolvedPool(name=name, spec=spec, uid=uid) for name, uid in UIDS.items()))
    for name, authority in (("hospital", HOSPITAL), ("other", OTHER)):
        (tmp_path / f"{name}.crt").write_bytes(authority.pem)
    external = read_external(msgspec.structs.replace(resolved_job, pools=pools), tmp_path)
    denied = tmp_path / "denied"
    denied.write_text("")
    return JobAdmission("job-1", DenyList(denied), FixedClock(), lambda: JOB.pem, external), denied


UIDS = {"hospital": "pool-1", "other": "pool-2"}


def certificate(authority, realm, pool, role=Role.WORKER, at=NOW, origin=None):
    key = authority.key.public_key()
    return read_certificate(authority.certify(key, name_identity(role, realm, pool), at, HOUR, origin))


@pytest.mark.parametrize(
    ("given", "method", "words"),
    [
        ((JOB, "job-1", "p"), JOIN, None),
        ((JOB, "job-1", "hospital"), JOIN, None),
        ((JOB, "job-1", "p", Role.JOINER), ENROL, None),
        ((JOB, "job-1", "p", Role.JOINER), JOIN, "may only enrol"),
        ((HOSPITAL, "pool-1", "hospital"), ENROL, None),
        ((HOSPITAL, "pool-1", "hospital"), JOIN, "may only enrol"),
        ((HOSPITAL, "pool-1", "hospital", Role.JOINER), ENROL, "not for this job"),
        ((HOSPITAL, "pool-1", "p"), ENROL, "not for this job"),
        ((HOSPITAL, "pool-2", "other"), ENROL, "not for this job"),
        ((HOSPITAL, "pool-3", "hospital"), ENROL, "not for this job"),
        ((HOSPITAL, "job-1", "p"), JOIN, "another authority than this job's"),
        ((HOSPITAL, "job-1", "hospital"), ENROL, "another authority than this job's"),
        ((JOB, "pool-1", "hospital"), ENROL, "not for this job"),
        ((JOB, "job-2", "p"), JOIN, "not for this job"),
    ],
)
def test_who_may_call_what(world, given, method, words):
    admission, _ = world
    refusal = admission.refusal(certificate(*given), method)
    assert (refusal is None) == (words is None), refusal
    assert words is None or words in refusal.reason


@pytest.mark.parametrize("entry", ["muster://pool-1/hospital", "{serial}"])
def test_what_denies_a_pool_denies_what_came_of_it_and_nobody_else(world, entry):
    admission, denied = world
    bundle = certificate(HOSPITAL, "pool-1", "hospital", Role.JOINER)
    pools = certificate(HOSPITAL, "pool-1", "hospital", origin=bundle.serial)
    jobs = certificate(JOB, "job-1", "hospital", origin=bundle.serial)
    write_private(denied, (entry.format(serial=f"{bundle.serial:x}") + "\n").encode())
    assert {admission.refusal(*each).cause for each in ((pools, ENROL), (jobs, JOIN))} == {Refused.REVOKED}
    assert admission.refusal(certificate(JOB, "job-1", "other"), JOIN) is None
    assert admission.refusal(certificate(OTHER, "pool-2", "other"), ENROL) is None


def test_a_revoked_pool_is_turned_away_and_comes_back_with_new_credentials_only(world):
    admission, _ = world
    old = [
        (certificate(HOSPITAL, "pool-1", "hospital"), ENROL),
        (certificate(JOB, "job-1", "hospital"), JOIN),
    ]
    admission.external.stand("hospital", Standing(is_revoked=True))
    assert {admission.refusal(*each).cause for each in old} == {Refused.REVOKED}
    admission.external.stand("hospital", Standing(since=NOW + 60))
    assert {admission.refusal(*each).cause for each in old} == {Refused.REVOKED}
    new = certificate(JOB, "job-1", "hospital", at=NOW + 60)
    assert admission.refusal(new, JOIN) is None
    assert new.not_before == NOW + 60 - SKEW_S


def test_an_authority_that_is_gone_or_damaged_still_counts_and_another_replaces_it(world):
    admission, _ = world
    pool = admission.external.pools[0]
    pool.authority.unlink()
    assert admission.refusal(certificate(HOSPITAL, "pool-1", "hospital"), ENROL) is None
    write_private(pool.authority, OTHER.pem)
    assert "not for this job" in admission.refusal(certificate(HOSPITAL, "pool-1", "hospital"), ENROL).reason
    write_private(pool.authority, HOSPITAL.pem)
    assert admission.refusal(certificate(HOSPITAL, "pool-1", "hospital"), ENROL) is None
    write_private(pool.authority, b"half a file")
    assert admission.refusal(certificate(HOSPITAL, "pool-1", "hospital"), ENROL) is None


def test_an_expired_certificate_may_come_back_with_a_newer_one(world):
    admission, _ = world
    refusal = admission.refusal(certificate(HOSPITAL, "pool-1", "hospital", at=NOW - 2 * HOUR), ENROL)
    assert refusal.cause is Refused.EXPIRED


@pytest.mark.parametrize(
    ("seen", "standing"),
    [
        ({"metadata": {"uid": "pool-1"}}, Standing()),
        ({"metadata": {"uid": "pool-1"}, "spec": {"external": {"revoked": False}}}, Standing()),
        ({"metadata": {"uid": "pool-1"}, "spec": {"external": {"revoked": True}}}, Standing(is_revoked=True)),
        ({"metadata": {"uid": "another"}}, Standing(is_revoked=True)),
        ({}, Standing(is_revoked=True)),
        (
            {"metadata": {"uid": "pool-1"}, "status": {"enrolment": {"since": "2027-01-15T08:00:00Z"}}},
            Standing(since=NOW),
        ),
        ({"metadata": {"uid": "pool-1"}, "status": {"enrolment": {"since": "soon"}}}, Standing()),
    ],
)
def test_how_a_pool_stands_is_what_its_object_says(world, seen, standing):
    admission, _ = world
    assert standing_of(admission.external.pools[0], seen) == standing
