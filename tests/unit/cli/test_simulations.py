"""Whole jobs in simulated time, small enough to be worked out by hand: with the real driver and the real loop."""

import math

import pytest

from muster_cli.errors import CommandError
from muster_cli.simulation.profile import read_profile
from muster_cli.simulation.surrogate import examples_of
from muster_cli.simulation.world import Deeds, World
from simulating import job_of, machines, run

ROUNDS = {"total": 6, "deadlineSeconds": 1000}


def steps(ordinal):
    """Of one training of the surrogate, in the job's one epoch of batches of one."""
    from muster.task import Client

    return examples_of(Client("p", ordinal, ordinal, 4, 4, 0))


def test_deeds_happen_in_the_order_of_time_and_then_of_asking():
    world, done = World(), []
    for name, when in (("c", 2.0), ("a", 1.0), ("b", 1.0)):
        world.at(when, lambda name=name: done.append((name, world.now())))
    inbox = Deeds(world)
    assert [inbox.take(None) for _ in range(3)] == [None] * 3
    assert done == [("a", 1.0), ("b", 1.0), ("c", 2.0)]
    inbox.take(5.0)
    assert world.now() == 7.0
    with pytest.raises(CommandError, match="stands still"):
        inbox.take(None)


def test_the_same_seed_leaves_the_same_bytes(tmp_path):
    job = job_of(tmp_path, rounds={"total": 5, "deadlineSeconds": 60, "cohort": 3, "minUpdates": 2})
    one, again = (run(job, read_profile("volatile")) for _ in range(2))
    assert one.raw == again.raw
    other = job_of(tmp_path, rounds={"total": 5, "deadlineSeconds": 60, "cohort": 3, "minUpdates": 2}, seed=5)
    assert run(other, read_profile("volatile")).raw != one.raw


def test_real_training_leaves_the_same_bytes_too(tmp_path):
    job = job_of(tmp_path, compression={"preset": "max"})
    one, again = (run(job, read_profile("tiers"), surrogate=False) for _ in range(2))
    assert one.raw == again.raw
    assert one.of("evaluated")[-1]["federated"]["loss"] > 0


def test_a_round_takes_what_its_slowest_client_takes(tmp_path):
    ran = run(job_of(tmp_path), machines(1, 2, 4, 8))
    slowest = max(steps(ordinal) / speed for ordinal, speed in enumerate((1, 2, 4, 8)))
    assert ran.seconds == pytest.approx([slowest] * 6)
    assert ran.summary["roundSeconds"]["mean"] == pytest.approx(slowest)
    assert ran.summary["participation"]["rounds"] == dict.fromkeys(("p/0", "p/1", "p/2", "p/3"), 6)


def test_fastest_k_waits_for_as_many_as_it_says_and_no_more(tmp_path):
    """Disabling it in the driver's engine fails here, as it fails the coordinator's tests."""
    speeds = (1, 2, 4, 8)
    ran = run(job_of(tmp_path, rounds=ROUNDS | {"minUpdates": 2}), machines(*speeds))
    second = sorted(steps(ordinal) / speed for ordinal, speed in enumerate(speeds))[1]
    assert ran.seconds == pytest.approx([second] * 6)
    assert all(len(line["clients"]) == 2 for line in ran.rounds)
    slow = [line["failed"] for line in ran.rounds]
    assert all(len(failed) == 2 for failed in slow)


@pytest.mark.parametrize(("rounds", "closed"), [({}, 6), ({"minUpdates": 3}, 0), ({"deadlineSeconds": 100_000}, 0)])
def test_rounds_that_the_deadline_closed_are_told_from_others(tmp_path, rounds, closed):
    """A round with minUpdates closes with so many; all others wait for everybody until the deadline."""
    deadline_s = math.ceil(max(steps(ordinal) for ordinal in range(3)) + 1)
    job = job_of(tmp_path, rounds={"total": 6, "deadlineSeconds": deadline_s} | rounds)
    ran = run(job, machines(1, 1, 1, 0.01))
    assert sum(line.is_closed_by_deadline for line in ran.history.rounds) == closed
    assert ran.summary["updatesPerRound"] == (4 if "deadlineSeconds" in rounds else 3)


def test_the_selector_of_the_job_chooses(tmp_path):
    """Random draws: over many rounds everybody takes part, about as often as everybody else."""
    ran = run(job_of(tmp_path, rounds={"total": 60, "deadlineSeconds": 1000, "cohort": 2}), machines(1, 2, 4, 8))
    counts = ran.summary["participation"]["rounds"]
    assert sum(counts.values()) == 120
    assert min(counts.values()) >= 18
    assert len({tuple(line["clients"]) for line in ran.rounds}) == 6
    everybody = run(job_of(tmp_path, selection={"type": "All"}), machines(1, 2, 4, 8))
    assert everybody.summary["updatesPerRound"] == 4


@pytest.mark.parametrize(("preset", "share"), [("none", 1.0), ("light", 0.6), ("balanced", 0.3)])
def test_what_a_codec_saves_is_saved_time(tmp_path, preset, share):
    """A line of 8 kbit/s up: an update of 1,000 numbers takes four seconds in float32."""
    spec = {"compression": {"preset": preset}, "task": task_of(1000), "evaluation": NEVER}
    ran = run(job_of(tmp_path, **spec), machines(1e9, 1e9, up_mbit=0.008))
    up = ran.rounds[-1]["bytesUp"] / 4
    assert up <= share * 4000 + 200
    assert ran.seconds[-1] == pytest.approx(up / 1000, rel=0.1)


NEVER = {"every": 1, "central": {"type": "Never"}, "federated": False}


def task_of(values):
    from running import TASKS

    source = {"type": "Path", "path": {"path": str(TASKS)}}
    return {"entrypoint": "drifting:Drifting", "config": {"values": values}, "source": source}


def test_downloads_and_round_trips_take_time(tmp_path):
    spec = {"evaluation": NEVER}
    near, far = (
        run(job_of(tmp_path, **spec), machines(1e9, 1e9, down_mbit=0.032, round_trip_ms=trip)) for trip in (0.0, 400.0)
    )
    assert near.seconds == pytest.approx([1.0] * 6, rel=0.1)  # 4,000 bytes at 4,000 a second
    for one, other in zip(near.seconds, far.seconds, strict=True):
        assert other - one == pytest.approx(0.4 * 1.5, rel=0.01)  # orders half, with the model; submit one


def test_a_large_update_asks_first_whether_to_be_sent(tmp_path):
    spec = {"evaluation": NEVER, "task": task_of(20_000)}
    near, far = (run(job_of(tmp_path, **spec), machines(1e9, 1e9, round_trip_ms=trip)) for trip in (0.0, 400.0))
    assert far.seconds[-1] - near.seconds[-1] == pytest.approx(0.4 * 3.5, rel=0.01)


def test_clients_that_are_told_their_time_send_what_they_have_done(tmp_path):
    """Whoever is too slow for the deadline sends part of its work; without the budget it would always be missing."""
    rounds = {"total": 5, "deadlineSeconds": 400, "cohort": 4}
    for stragglers, is_there in (("Drop", False), ("Partial", True)):
        job = job_of(tmp_path, rounds=rounds | {"stragglers": {"type": stragglers}})
        counts = run(job, machines(1, 1, 1, 0.2)).summary["participation"]["rounds"]
        assert (counts["p/3"] > 0) is is_there


def test_a_client_too_slow_for_one_step_sends_the_layers_that_are_done(tmp_path):
    """A step of the slowest takes 50 s and its time is up after 36: then it is through its second layer of three."""
    for stragglers, is_there in (("Partial", False), ("LayerWise", True)):
        job = job_of(
            tmp_path,
            task={"entrypoint": "muster.tasks.digits:Digits", "config": {"width": 2}},
            rounds={"total": 2, "deadlineSeconds": 40, "stragglers": {"type": stragglers}},
            local={"batchSize": 64, "learningRate": 0.05},
            evaluation=NEVER,
        )
        ran = run(job, machines(1, 1, 1, 0.02), surrogate=False)
        assert ("p/3" in ran.rounds[0]["clients"]) is is_there
        assert ran.rounds[-1]["metrics"]["loss"] > 0


def test_a_deadline_cuts_off_who_is_slower(tmp_path):
    ran = run(job_of(tmp_path), machines(1, 1, 1, 0.5))
    assert max(ran.seconds) == pytest.approx(2 * steps(3))
    cut = run(job_of(tmp_path, rounds={"total": 3, "deadlineSeconds": 400, "cohort": 4}), machines(1, 1, 1, 0.01))
    assert cut.seconds == [400.0] * 3
    assert all(list(line["failed"]) == ["p/3"] for line in cut.rounds)


def test_who_drops_out_is_missing_and_comes_back(tmp_path):
    rounds = {"total": 40, "deadlineSeconds": 400, "minUpdates": 2}
    profile = machines(1, 1, 1, 1, dropout=0.2, away_seconds=50)
    ran = run(job_of(tmp_path, rounds=rounds), profile)
    used = sum(ran.summary["participation"]["rounds"].values())
    missing = sum(len(line["failed"]) for line in ran.rounds)
    assert missing
    assert used == sum(len(line["clients"]) for line in ran.rounds)
    assert ran.summary["participation"]["least"] > 0
    assert ran.summary["outcome"] == "Complete"


@pytest.mark.parametrize("keeps", [False, True])
def test_what_a_client_remembers_survives_its_worker_where_the_pool_says_so(tmp_path, keeps):
    """One-bit updates leave an error behind; a worker that ends takes it along, unless the pool has a place for it."""
    pool = {"type": "Kubernetes", "clients": 4, "trusted": True}
    if keeps:
        pool["state"] = {"type": "Path", "path": {"path": "/var/lib/muster"}}
    profile = machines(1, 1, 1, 1, preemptions_per_hour=6, away_seconds=20)
    spec = {
        "pools": [{"name": "p", "inline": pool}],
        "compression": {"up": {"codecs": [{"type": "OneBit"}]}},
        "rounds": {"total": 30, "deadlineSeconds": 500, "minUpdates": 2},
    }
    ran = run(job_of(tmp_path, **spec), profile)
    lost = sum(line["memoriesLost"] for line in ran.rounds)
    assert (lost == 0) if keeps else (lost > 0)


def test_late_updates_come_in_the_round_after(tmp_path):
    late = {"type": "NextRound", "nextRound": {"maxStaleness": 2, "exponent": 0.5}}
    rounds = {"total": 6, "deadlineSeconds": 1000, "minUpdates": 3, "lateUpdates": late}
    ran = run(job_of(tmp_path, rounds=rounds), machines(1, 1, 1, 0.4))
    assert ran.summary["participation"]["rounds"]["p/3"] > 0


def test_a_job_that_fails_says_so_and_when(tmp_path):
    rounds = {"total": 3, "deadlineSeconds": 10, "maxFailedRounds": 2}
    ran = run(job_of(tmp_path, rounds=rounds), machines(0.001, 0.001, 0.001, 0.001))
    assert ran.summary["outcome"] == "Failed"
    assert ran.summary["failedAttempts"] == 1  # the other one ended the job
    assert ran.of("finished")[0]["simulatedSeconds"] == pytest.approx(20)
