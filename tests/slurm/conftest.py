"""The SLURM that these tests run against: brought up for the session, taken down after it, whatever happens.

A machine that can't have one skips, with the reason; where MUSTER_REQUIRE contains "slurm" that is a failure instead.
After each test the queue has to be empty. MUSTER_SLURM_RELEASE names another Debian release, whose SLURM it is to be.
"""

import os

import pytest

from slurming import CANNOT, Slurm, own_slurm

RELEASE = os.environ.get("MUSTER_SLURM_RELEASE", "")
OF_RELEASE = ("--release", RELEASE) if RELEASE else ()


@pytest.fixture(scope="session")
def private_slurm(tmp_path_factory):
    with own_slurm(f"tests-{os.getpid()}", *OF_RELEASE) as found:
        yield usable(found, tmp_path_factory)


@pytest.fixture
def small_slurm(tmp_path_factory):
    """Another one, that has room for four jobs."""
    with own_slurm(f"small-{os.getpid()}", *OF_RELEASE, settings=("MaxJobCount=4",)) as found:
        yield usable(found, tmp_path_factory)


def usable(found, tmp_path_factory):
    if not isinstance(found, Slurm):
        skip_or_fail(found)
    if RELEASE:
        found.use_commands_of_its_own(tmp_path_factory.mktemp("commands"))
    return found


@pytest.fixture
def slurm(private_slurm):
    yield private_slurm
    private_slurm.repair()
    left = private_slurm.queue()
    private_slurm.tell("scancel", "--user=root")
    private_slurm.until(lambda: not private_slurm.queue())
    assert not left, f"the test has left jobs: {left}"


def skip_or_fail(brought_up):
    reason = brought_up.stderr.strip()
    if brought_up.returncode != CANNOT or "slurm" in os.environ.get("MUSTER_REQUIRE", "").split(","):
        pytest.fail(f"no SLURM to test against: {reason}", pytrace=False)
    pytest.skip(reason)
