"""Every state that SLURM has means something to us."""

import pytest

from muster_slurm.jobs import Exit, Job, exit_of, read_tasks
from muster_slurm.states import CAUSES, PHASES, Cause, Phase, phase_of

# slurm.h of 22.05 to 25.11: enum job_states and the JOB_ flags, under the names that squeue and slurmrestd print.
ALL = {
    *("PENDING", "RUNNING", "SUSPENDED", "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED"),
    *("BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY", "LAUNCH_FAILED", "RECONFIG_FAIL", "REQUEUED", "REQUEUE_HOLD"),
    *("SPECIAL_EXIT", "RESIZING", "CONFIGURING", "COMPLETING", "STOPPED", "REVOKED", "RESV_DEL_HOLD", "SIGNALING"),
    *("STAGE_OUT", "REQUEUE_FED", "POWER_UP_NODE", "UPDATE_DB", "EXPEDITING"),
}


def test_all_are_known():
    assert set(PHASES) == ALL
    assert {state for state in ALL if PHASES[state] is Phase.ENDED} == set(CAUSES)


@pytest.mark.parametrize(
    ("states", "phase"),
    [
        (["RUNNING"], Phase.RUNNING),
        (["CANCELLED", "COMPLETING"], Phase.ENDING),
        (["PENDING", "COMPLETING"], Phase.ENDING),
        (["PENDING", "REQUEUED"], Phase.WAITING),
        (["PENDING", "REQUEUE_HOLD"], Phase.HELD),
        (["RUNNING", "CONFIGURING"], Phase.WAITING),
        (["QUANTUM"], Phase.UNKNOWN),
        (["FAILED", "QUANTUM"], Phase.UNKNOWN),
        ([], Phase.UNKNOWN),
    ],
)
def test_several_at_once(states, phase):
    assert phase_of(states) is phase


def job(states, reason="", **more):
    return Job(1, 1, (0,), tuple(states), "n", "c", reason, **more)


def test_reasons_say_who_waits_for_ever():
    assert job(["PENDING"], "JobHeldUser").phase is Phase.HELD
    assert job(["PENDING"], "BadConstraints").never_starts
    assert not job(["PENDING"], "Resources").never_starts
    assert not job(["FAILED"], "BadConstraints").never_starts


def test_causes():
    assert job(["NODE_FAIL"]).cause is Cause.INTERRUPTED
    assert job(["CANCELLED"]).cause is Cause.CANCELLED
    assert job(["CANCELLED", "COMPLETING"]).cause is None


def test_exits_are_wait_statuses():
    assert (exit_of(1792), exit_of(36608), exit_of(15)) == (Exit(7), Exit(143), Exit(0, 15))


@pytest.mark.parametrize(
    ("text", "tasks", "is_cut"),
    [
        ("0-3,7", (0, 1, 2, 3, 7), False),
        ("8-19:4%2", (8, 12, 16), False),
        ("[1-2]", (1, 2), False),
        ("1,3,5,...", (1, 3, 5), True),
        ("", (), False),
        ("what", (), True),
    ],
)
def test_tasks(text, tasks, is_cut):
    assert read_tasks(text) == (tasks, is_cut)
