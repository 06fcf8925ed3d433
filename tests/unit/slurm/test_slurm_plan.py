"""What the bridge decides, pass by pass, without any SLURM."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_slurm.errors import SettingsError
from muster_slurm.jobs import Exit, Job
from muster_slurm.ledger import Ledger, Submission, Worker, read_ledger, write_ledger
from muster_slurm.plan import (
    SETTLE_S,
    Heard,
    Listing,
    Wanted,
    given_up,
    make_plan,
    note_answer,
    note_refusal,
    note_silence,
)
from muster_slurm.request import Keys, Tag

KEYS = Keys("u", "hpc")
NOBODY = frozenset()


def job(number, task, *states, array=100, code=0, workers=2, base=0, **more):
    states, tag = states or ("RUNNING",), Tag(number, workers, base)
    return Job(array + 1 + task, array, (task,), states, KEYS.name(tag), KEYS.comment(tag), exit=Exit(code), **more)


class Site:
    """Passes over a ledger, at a time that the test moves."""

    def __init__(self, workers=2, limit=1, max_array=1001):
        self.wanted = Wanted(workers, limit, max_array)
        self.ledger = Ledger()
        self.now = 1000.0

    def look(self, *jobs, present=NOBODY, fruitless=NOBODY, **wanted):
        fields = {name: getattr(self.wanted, name) for name in Wanted.__slots__} | wanted
        heard = Heard(present, frozenset(fruitless))
        plan = make_plan(self.ledger, Listing(self.now, jobs), Wanted(**fields), KEYS, heard, self.now)
        self.ledger = plan.ledger
        return plan

    def begin(self):
        """With its one submission answered."""
        [submission] = self.look().submit
        self.ledger = note_answer(self.ledger, submission.number, 100)
        return self


def slots(plan):
    return [submission.slots for submission in plan.submit]


def test_one_array_for_all():
    site = Site(workers=3)
    assert slots(site.look()) == [(0, 1, 2)]
    assert slots(site.look()) == []  # asked, not answered yet


def test_what_runs_is_left_alone():
    site = Site().begin()
    plan = site.look(job(0, 0), job(0, 1, "PENDING"))
    assert (plan.submit, plan.cancel, plan.news) == ((), (), ())


def test_a_lost_answer_is_found_by_the_key():
    site = Site()
    site.look()
    assert site.look(job(0, 0), job(0, 1)).submit == ()
    assert site.ledger.submissions[0].job == 100


def test_a_lost_answer_is_found_by_the_name_where_a_plugin_rewrites_comments():
    site = Site()
    site.look()
    site.look(*(msgspec_free(each, comment="site policy 7") for each in (job(0, 0), job(0, 1))))
    assert site.ledger.submissions[0].job == 100


def msgspec_free(each, **changes):
    fields = {name: getattr(each, name) for name in Job.__slots__} | changes
    return Job(**fields)


def test_a_submission_that_never_shows_up_is_made_again_under_the_same_key():
    site = Site()
    [first] = site.look().submit
    site.ledger = note_silence(site.ledger, first.number, site.now)
    site.now += SETTLE_S - 1
    assert site.look().submit == ()
    site.now += 2
    [again] = site.look().submit
    assert again.number == first.number


def test_of_two_under_one_key_the_first_is_kept():
    site = Site()
    site.look()
    plan = site.look(job(0, 0, array=200), job(0, 1, array=200), job(0, 0), job(0, 1))
    assert plan.cancel == (200,)
    assert site.ledger.submissions[0].job == 100


def test_done_is_done():
    site = Site().begin()
    plan = site.look(job(0, 0, "COMPLETED"), job(0, 1))
    assert plan.submit == ()
    assert site.ledger.worker(0).fate == "done"
    site.now += 1e6
    assert site.look(job(0, 1)).submit == ()


@pytest.mark.parametrize("state", ["TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REVOKED"])
def test_interruptions_cost_nothing(state):
    site = Site(limit=0).begin()
    assert [news.kind for news in site.look(job(0, 0, state), job(0, 1)).news] == ["interrupted"]
    site.now += 10
    assert slots(site.look(job(0, 0, state), job(0, 1))) == [(0,)]


def test_leaving_when_warned_of_the_time_limit_costs_nothing():
    site = Site(limit=0).begin()
    assert [news.kind for news in site.look(job(0, 0, "FAILED", code=143), job(0, 1)).news] == ["interrupted"]


def cut_short(site, number, *, fruitless, state=("FAILED",), array=100):
    """Worker 0's job comes to its time limit; what is planned once it would be submitted again."""
    plan = site.look(job(number, 0, *state, code=143, array=array, workers=1))
    assert [news.kind for news in plan.news] == ["interrupted"]
    site.now += 6
    return site.look(fruitless=fruitless)


@pytest.mark.parametrize("state", [("FAILED",), ("TIMEOUT",)])
def test_a_time_limit_that_ends_every_training_is_found_out(state):
    site = Site(workers=1, limit=1).begin()
    plan = cut_short(site, 0, fruitless={0}, state=state)
    assert ([news.kind for news in plan.news], slots(plan)) == (["fruitless"], [(0,)])
    site.ledger = note_answer(site.ledger, 1, 300)
    plan = cut_short(site, 1, fruitless={0}, state=state, array=300)
    assert slots(plan) == []
    [news] = plan.news
    assert news.kind == "givenUp"
    assert (
        "2 jobs in a row came to their time limit before anything was handed in: raise slurm.timeLimit" in news.message
    )
    assert given_up(site.ledger, 1)


def test_jobs_that_bring_something_may_come_to_their_time_limit_for_ever():
    site = Site(workers=1, limit=0).begin()
    for number in range(4):
        assert slots(cut_short(site, number, fruitless=NOBODY, array=100 + number)) == [(0,)]
        site.ledger = note_answer(site.ledger, number + 1, 101 + number)


def test_only_jobs_in_a_row_count():
    site = Site(workers=1, limit=1).begin()
    for number, fruitless in enumerate([{0}, NOBODY, {0}, NOBODY]):
        assert slots(cut_short(site, number, fruitless=fruitless, array=100 + number)) == [(0,)]
        site.ledger = note_answer(site.ledger, number + 1, 101 + number)


def test_a_preemption_is_nobodys_time_limit():
    site = Site(workers=1, limit=0).begin()
    assert slots(cut_short(site, 0, fruitless={0}, state=("PREEMPTED",))) == [(0,)]


@pytest.mark.parametrize("state", ["FAILED", "OUT_OF_MEMORY", "CANCELLED", "DEADLINE", "LAUNCH_FAILED"])
def test_failures_are_counted_and_wait_longer_each_time(state):
    site = Site(limit=1).begin()
    plan = site.look(job(0, 0, state, code=1), job(0, 1))
    assert [news.kind for news in plan.news] == ["failed"]
    assert site.look(job(0, 0, state), job(0, 1)).submit == ()
    site.now += 6
    [again] = site.look(job(0, 0, state), job(0, 1)).submit
    assert (again.slots, again.number) == ((0,), 1)
    site.ledger = note_answer(site.ledger, 1, 300)
    plan = site.look(job(1, 0, state, array=300), job(0, 1))
    assert [news.kind for news in plan.news] == ["givenUp"]
    assert site.ledger.worker(0).fate == "given up"


def test_exit_2_is_for_good():
    site = Site(limit=9).begin()
    assert [news.kind for news in site.look(job(0, 0, "FAILED", code=2), job(0, 1)).news] == ["givenUp"]


def test_what_is_completing_is_not_over():
    site = Site().begin()
    plan = site.look(job(0, 0, "CANCELLED", "COMPLETING"), job(0, 1, "QUANTUM"))
    assert (plan.news, plan.submit) == ((), ())
    assert site.ledger.submissions[0].slots == (0, 1)


def test_a_requeued_job_is_still_the_same():
    site = Site().begin()
    plan = site.look(job(0, 0, "PENDING", restarts=3), job(0, 1))
    assert (plan.submit, plan.news) == ((), ())


def test_what_slurm_forgot_is_judged_by_what_the_coordinator_saw():
    site = Site().begin()
    site.now += SETTLE_S + 1
    plan = site.look(present=frozenset({0}))
    assert [(news.kind, news.slots) for news in plan.news] == [("failed", (1,))]
    assert site.ledger.submissions[0].slots == (0,)  # heard of, so it runs
    assert site.ledger.worker(1).failures == 1  # a failure, not something new
    assert [news.slots for news in site.look().news] == [(0,)]


def test_at_the_end_what_slurm_forgot_is_gone_whoever_was_heard():
    site = Site().begin()
    site.now += SETTLE_S + 1
    plan = site.look(present=frozenset({0, 1}), over=True)
    assert (plan.is_idle, plan.news) == (True, ())


def test_nobody_is_judged_before_the_coordinator_was_heard():
    site = Site().begin()
    site.now += SETTLE_S + 1
    assert site.look(present=None).news == ()


def test_nothing_is_forgotten_before_it_could_be_listed():
    site = Site().begin()
    assert site.look().news == ()


def test_a_cut_list_stands_for_the_tasks_without_a_record():
    site = Site(workers=3).begin()
    rest = Job(100, 100, (0,), ("PENDING",), KEYS.name(Tag(0, 3, 0)), KEYS.comment(Tag(0, 3, 0)), is_rest=True)
    site.now += SETTLE_S + 1
    assert site.look(rest).news == ()
    assert site.ledger.submissions[0].slots == (0, 1, 2)


def test_the_end_cancels_everything_and_submits_nothing():
    site = Site().begin()
    plan = site.look(job(0, 0), job(0, 1, "PENDING"), over=True)
    assert plan.cancel == (100,)
    assert not plan.is_idle
    plan = site.look(job(0, 0, "CANCELLED"), job(0, 1, "CANCELLED"), over=True)
    assert plan.is_idle
    assert plan.news == ()


def test_with_patience_only_what_waits_is_cancelled():
    site = Site().begin()
    assert site.look(job(0, 0), job(0, 1, "PENDING"), over=True, patient=True).cancel == ()
    assert site.look(job(0, 0, "COMPLETED"), job(0, 1, "PENDING"), over=True, patient=True).cancel == (100,)


def test_the_end_waits_for_a_lost_answer_to_settle():
    site = Site()
    site.look()
    assert not site.look(over=True).is_idle
    assert site.look(job(0, 0), over=True).cancel == (100,)
    other = Site()
    other.look()
    other.now += SETTLE_S + 1
    assert other.look(over=True).is_idle


def test_another_number_of_workers_begins_anew():
    """Which clients a worker acts for depends on how many there are."""
    site = Site(workers=2).begin()
    plan = site.look(job(0, 0), job(0, 1), workers=3)
    assert plan.cancel == (100,)
    assert slots(plan) == [(2,)]


def test_jobs_that_no_ledger_knows_are_taken_up_and_their_numbers_left_free():
    site = Site(workers=3)
    plan = site.look(job(4, 0, workers=3), job(4, 1, workers=3), job(3, 0, "FAILED", array=50, workers=3))
    assert plan.cancel == ()
    assert [(one.number, one.slots) for one in plan.submit] == [(5, (2,))]
    assert site.ledger.submissions[0].job == 100


def test_jobs_that_no_ledger_knows_go_where_they_are_of_no_use():
    twice = Site().look(job(4, 0), job(4, 1), job(3, 0, array=50), job(3, 1, array=50))
    assert twice.cancel == (50,)
    assert Site().look(job(4, 0, workers=7)).cancel == (100,)
    assert Site().look(job(4, 0), job(4, 1), over=True).cancel == (100,)


def test_foreign_jobs_are_nothing_to_us():
    site = Site().begin()
    stranger = Job(7, 7, (), ("RUNNING",), "muster-u-hpc2-0-2-0", "muster/u/hpc2/0/2/0")
    assert site.look(job(0, 0), job(0, 1), stranger).cancel == ()


def test_arrays_keep_within_max_array_size_and_what_the_site_takes():
    site = Site(workers=12, max_array=5)
    plan = site.look()
    assert slots(plan) == [(0, 1, 2, 3, 4), (5, 6, 7, 8, 9), (10, 11)]
    assert [one.base for one in plan.submit] == [0, 5, 10]
    assert slots(Site(workers=5).look(largest=2)) == [(0, 1), (2, 3), (4,)]


def test_a_task_of_a_later_block_is_told_from_one_of_the_first():
    site = Site(workers=7, max_array=5)
    for number, submission in enumerate(site.look().submit):
        site.ledger = note_answer(site.ledger, submission.number, 100 * (number + 1))
    first = [job(0, task) for task in range(5)]
    second = [job(1, 0, "FAILED", array=200, code=1, base=5), job(1, 1, array=200, base=5)]
    assert [news.slots for news in site.look(*first, *second).news] == [(5,)]


def test_a_bridge_that_knows_neither_its_jobs_nor_max_array_size_tells_their_tasks_apart():
    site = Site(workers=7)  # whose MaxArraySize was found to be 5 by the one before
    plan = site.look(*(job(0, task, workers=7) for task in range(5)), job(1, 0, array=200, workers=7, base=5))
    assert slots(plan) == [(6,)]
    second = [job(1, 0, "FAILED", array=200, code=1, workers=7, base=5)]
    assert [news.slots for news in site.look(*(job(0, task, workers=7) for task in range(5)), *second).news] == [(5,)]


def test_what_slurm_has_taken_is_known_for_good_however_its_answer_came():
    site = Site()
    [submission] = site.look().submit
    assert not site.ledger.accepted
    assert note_answer(site.ledger, submission.number, 100).accepted
    site.look(job(0, 0), job(0, 1))
    assert site.ledger.accepted
    site.look(job(0, 0, "TIMEOUT"), job(0, 1, "TIMEOUT"))
    assert site.ledger.accepted
    assert note_refusal(site.ledger, 0, 60.0, site.now, counts=False).accepted


def test_a_refusal_leaves_nothing_to_look_for():
    site = Site()
    [submission] = site.look().submit
    site.ledger = note_refusal(site.ledger, submission.number, 60.0, site.now, counts=False)
    assert site.look().submit == ()
    site.now += 61
    assert slots(site.look()) == [(0, 1)]


def test_a_pool_of_which_nothing_will_come():
    ledger = Ledger(workers={0: Worker(fate="given up"), 1: Worker()})
    assert not given_up(ledger, 2)
    assert given_up(msgspec.structs.replace(ledger, workers={0: ledger.worker(0), 1: ledger.worker(0)}), 2)


STATES = ["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "COMPLETING", "QUANTUM"]


@given(st.lists(st.lists(st.sampled_from([*STATES, None]), min_size=3, max_size=3), max_size=12), st.data())
def test_no_worker_is_ever_in_two_submissions(passes, data):
    """Whatever SLURM says and forgets: a worker has one live submission at most, and numbers are never used again."""
    site = Site(workers=3, limit=2)
    made = []
    for states in passes:
        site.now += data.draw(st.sampled_from([0.1, 10.0, 400.0]))
        jobs = [
            job(submission.number, slot, state, array=submission.job or 1000 + submission.number, code=1)
            for submission in site.ledger.submissions
            for slot, state in zip(submission.slots, states, strict=False)
            if state is not None
        ]
        plan = site.look(*jobs)
        for submission in plan.submit:
            made.append((submission.number, submission.slots))
            site.ledger = note_answer(site.ledger, submission.number, 1000 + submission.number)
        live = [slot for submission in site.ledger.submissions for slot in submission.slots]
        assert len(live) == len(set(live))
    assert len({number for number, _ in made}) <= site.ledger.next


def test_ledgers_survive(tmp_path):
    ledger = Ledger(3, (Submission(2, (7, 9), 12, 17.5, 99, 5),), {1: Worker(2, 8.0, "done")}, True, 5)
    write_ledger(tmp_path / "ledger", ledger)
    assert read_ledger(tmp_path / "ledger") == ledger
    assert read_ledger(tmp_path / "none") == Ledger()


def test_a_torn_ledger_is_said_so(tmp_path):
    (tmp_path / "ledger").write_text("{")
    with pytest.raises(SettingsError, match="scancel"):
        read_ledger(tmp_path / "ledger")
