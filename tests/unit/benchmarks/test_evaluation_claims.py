"""Claims hold on what they say that they are decided on, and never on the seeds alone that got there."""

import dropouts
import scaling
import stragglers
from evaluations.claims import Claim, judged
from evaluations.figures import TARGET, difference, level, participation, round_seconds, saving, seconds_to_target
from evaluations.series import closing

REACHED, NEVER = [TARGET + 0.01] * 3, [0.1] * 3


def row(arm, seed=0, seconds=10.0, accuracies=REACHED, took_part=60):
    return {
        "benchmark": "b",
        "arm": arm,
        "seed": seed,
        "rounds": 1,
        "outcome": "Complete",
        "seconds": seconds,
        "roundSeconds": [seconds],
        "bytesUp": 1,
        "failedAttempts": 0,
        "clients": 60,
        "participation": [1] * took_part + [0] * (60 - took_part),
        "measured": [[number, seconds * number, value] for number, value in enumerate(accuracies, start=1)],
    }


def of_mean(rows):
    return saving(rows, "a", "r", round_seconds)


def test_a_claim_is_decided_on_the_mean_and_its_interval_stands_beside_it():
    rows = [row("r", 0), row("a", 0, 9.0), row("r", 1), row("a", 1, 6.0)]
    found = judged(Claim("faster", of_mean, "at least", 25), rows)
    assert found | {"figure": None} == {
        "name": "faster",
        "figure": None,
        "bound": {"at least": 25},
        "decided_on": "mean",
        "holds": True,
    }
    assert found["figure"]["mean"] == 25
    assert found["figure"]["ci95"][0] < 0
    assert judged(Claim("faster", of_mean, "above", 25), rows)["holds"] is False
    assert judged(Claim("faster", of_mean, "at most", 25), rows)["holds"] is True
    assert judged(Claim("faster", of_mean, "below", 25), rows)["holds"] is False


def test_or_on_an_end_of_the_interval():
    rows = [row("r", 0), row("a", 0, 9.0), row("r", 1), row("a", 1, 6.0)]
    low, high = of_mean(rows)["ci95"]
    for end, value in (("lower end of ci95", low), ("upper end of ci95", high)):
        assert judged(Claim("faster", of_mean, "at least", value, end), rows)["holds"] is True
        assert judged(Claim("faster", of_mean, "at least", value + 0.01, end), rows)["holds"] is False


def test_nothing_is_decided_where_nothing_is_known():
    assert judged(Claim("faster", of_mean, "at least", 0), [row("a")])["holds"] is None
    one_pair = [row("r"), row("a")]
    assert judged(Claim("faster", of_mean, "at least", 0, "upper end of ci95"), one_pair)["holds"] is None
    assert judged(Claim("faster", of_mean, "at least", 0), one_pair)["holds"] is True


def test_a_claim_does_not_hold_where_a_seed_never_reached_the_target():
    claim = Claim("sooner", lambda rows: saving(rows, "a", "r", seconds_to_target), "at least", 20)
    rows = [row(arm, seed, seconds) for seed in range(3) for arm, seconds in (("r", 10.0), ("a", 5.0))]
    assert judged(claim, rows)["holds"] is True
    for arm in ("a", "r"):
        missed = [*rows, row("r", 3), row("a", 3, 5.0)]
        missed = [row(arm, 3, accuracies=NEVER) if (each["arm"], each["seed"]) == (arm, 3) else each for each in missed]
        found = judged(claim, missed)
        assert found["holds"] is False
        assert (found["figure"]["mean"], found["figure"]["pairs"], found["figure"]["seeds"]) == (50, 3, 4)
        assert found["figure"]["seeds_with_a_value"] == {"a": 4, "r": 4} | {arm: 3}
    nobody = [row("r", accuracies=NEVER), row("a", accuracies=NEVER)]
    assert judged(claim, nobody)["holds"] is False
    assert judged(claim, nobody)["figure"]["mean"] is None


def test_a_single_client_that_never_took_part_is_seen():
    claim = Claim("everybody", lambda rows: participation(rows, "a"), "at least", 100, "least")
    assert judged(claim, [row("a", seed) for seed in range(5)])["holds"] is True
    found = judged(claim, [row("a", seed, took_part=59 if seed == 3 else 60) for seed in range(5)])
    assert found["holds"] is False
    assert found["figure"]["least"] == 98.333


def verdicts(series, rows):
    return [claim["holds"] for claim in closing(series, rows)["claims"]]


def test_stragglers_say_what_is_held_against_what():
    def rows(adaptive, fastest, deadline, accuracies):
        for seed in range(2):
            yield row("random, all", seed)
            yield row("adaptive, all", seed, adaptive, accuracies)
            yield row("random, fastest 14", seed, fastest)
            yield row("random, deadline alone", seed, deadline)

    worse = [level - 0.01 for level in REACHED]
    assert verdicts(stragglers.SERIES, list(rows(8.8, 8.0, 8.0, REACHED))) == [True] * 5
    assert verdicts(stragglers.SERIES, list(rows(8.9, 8.1, 8.1, worse))) == [False, False, True, False, False]
    assert verdicts(stragglers.SERIES, []) == [None] * 5


def test_dropouts_and_scaling_have_one_claim_each():
    calm, rough = (arm.name for arm in dropouts.ARMS[:2])
    for lost, holds in ((0.017, True), (0.018, False)):
        assert verdicts(dropouts.SERIES, [row(calm, accuracies=[0.4]), row(rough, accuracies=[0.4 - lost])]) == [holds]
    for seconds, holds in ((45.0, True), (44.0, False)):
        rows = [row("even, 10", seconds=seconds), row("even, 60"), row("tiers, 10", seconds=99), row("tiers, 60")]
        assert verdicts(scaling.SERIES, rows) == [holds]


def test_a_difference_that_nobody_can_take_has_no_mean():
    found = difference([row("a", accuracies=[]), row("r")], "a", "r", level)
    assert (found["mean"], found["ci95"], found["pairs"], found["seeds"]) == (None, None, 0, 1)
