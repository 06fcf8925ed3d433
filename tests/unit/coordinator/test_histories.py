"""What is known of clients: a fold over commits that is the same after a restart."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fake_world import FakeWorld, config_for
from muster_coordinator.histories import Histories, blank
from muster_coordinator.records import Absence, AssignmentId, RoundCommit, UsedUpdate
from muster_coordinator.recovery import History, restore
from muster_spec.clients import ClientId

NAMES = [ClientId(f"a/{index}") for index in range(4)]
ORDINALS = {name: ordinal for ordinal, name in enumerate(NAMES)}


def used(client: ClientId, number: int, **measured: Any) -> UsedUpdate:
    values = {"examples": 10, "weight": 10.0, "steps": 5, "metrics": {}, **measured}
    return UsedUpdate(client=client, assignment=AssignmentId(f"{number}.0.{client}"), round=number, **values)


def commit(number: int, *updates: UsedUpdate, **absences: Absence) -> RoundCommit:
    return RoundCommit(
        round=number,
        attempt=0,
        epoch=1,
        base="m",
        model="n",
        used=updates,
        failed={},
        failed_attempts=0,
        started_s=0.0,
        seconds=30.0,
        bytes_up=0,
        bytes_down=0,
        absences={ClientId(name.replace("_", "/")): why for name, why in absences.items()},
    )


def folded(*commits: RoundCommit, decay: float = 0.5) -> Histories:
    histories = Histories()
    for each in commits:
        histories = histories.after(each, ORDINALS, decay)
    return histories


def test_measurements_are_means_in_which_the_newest_counts_half() -> None:
    first = used(NAMES[0], 1, elapsed_s=10.0, train_s=6.0, upload_s=2.0, size_bytes=1000)
    second = used(NAMES[0], 2, elapsed_s=20.0, train_s=8.0, upload_s=4.0, size_bytes=4000)
    row = folded(commit(1, first), commit(2, second)).row(0)
    assert (row["elapsed_s"], row["train_s"], row["upload_s"]) == (15.0, 7.0, 3.0)
    assert (row["fetch_s"], row["bytes_per_s"], row["bytes_up"]) == (5.0, 750.0, 5000)
    assert (row["asked"], row["used"], row["last_asked"], row["last_used"], row["examples"]) == (2, 2, 2, 2, 10)


def test_what_was_not_measured_changes_nothing() -> None:
    row = folded(commit(1, used(NAMES[0], 1, elapsed_s=10.0, upload_s=1.0)), commit(2, used(NAMES[0], 2))).row(0)
    assert (row["elapsed_s"], row["upload_s"]) == (10.0, 1.0)
    assert math.isnan(row["train_s"])


def test_failures_in_a_row_are_counted_until_an_update_is_used() -> None:
    bad = [commit(1, a_0=Absence.FAILED), commit(2, a_0=Absence.LOST), commit(3, a_0=Absence.LATE)]
    row = folded(*bad).row(0)
    assert (row["strikes"], row["last_strike"], row["failed"], row["late"], row["asked"]) == (3, 3, 2, 1, 3)
    good = folded(*bad, commit(4, used(NAMES[0], 4))).row(0)
    assert (good["strikes"], good["failed"], good["last_asked"]) == (0, 2, 4)


def test_being_overtaken_is_no_failure_but_says_how_slow_a_client_is_at_least() -> None:
    row = folded(commit(1, a_1=Absence.OVERTAKEN)).row(1)
    assert (row["strikes"], row["overtaken"], row["elapsed_s"]) == (0, 1, 30.0)
    slower = folded(commit(1, used(NAMES[1], 1, elapsed_s=50.0)), commit(2, a_1=Absence.OVERTAKEN)).row(1)
    assert slower["elapsed_s"] == 50.0


def test_a_late_update_counts_as_used_and_not_as_asked() -> None:
    row = folded(commit(1, a_2=Absence.LATE), commit(2, used(NAMES[2], 1))).row(2)
    assert (row["asked"], row["used"], row["strikes"]) == (1, 1, 0)


def test_of_two_updates_of_one_client_both_count_and_the_newer_is_believed() -> None:
    late = used(NAMES[2], 1, elapsed_s=90.0, size_bytes=10, metrics={"loss": 5.0})
    row = folded(commit(2, late, used(NAMES[2], 2, elapsed_s=30.0, size_bytes=20, metrics={"loss": 3.0}))).row(2)
    assert (row["used"], row["bytes_up"], row["elapsed_s"], row["loss"]) == (2, 30, 30.0, 3.0)


def test_contributions_are_shares_of_what_moved_the_model_and_fade() -> None:
    # by hand: pushes 10·3 and 10·1, average 20, so 1.5 and 0.5; then alone, 1: (0.5·1.5 + 1) / (0.5·1 + 1)
    both = commit(1, used(NAMES[0], 1, norm=3.0), used(NAMES[1], 1, norm=1.0))
    alone = commit(2, used(NAMES[0], 2, norm=9.0))
    row = folded(both, alone).row(0)
    assert row["moved"] / row["moved_weight"] == pytest.approx(1.75 / 1.5)
    assert folded(both).row(1)["moved"] == 0.5


def test_a_round_is_remembered_by_its_losses() -> None:
    one = used(NAMES[0], 1, metrics={"loss": 1.0, "lossRms": 2.0, "lossLow": 0.1, "lossHigh": 3.0})
    two = used(NAMES[1], 1, examples=30, metrics={"loss": 2.0, "lossLow": 0.2, "lossHigh": 5.0})
    (seen,) = folded(commit(1, one, two)).rounds
    assert seen.loss == pytest.approx((10 * 1 + 30 * 2) / 40)
    assert seen.utility == pytest.approx(10 * 2 + 30 * 2)  # the second says no root mean square: its mean stands in
    assert (seen.loss_low, seen.loss_high) == (0.1, 4.0)


def test_the_first_model_and_strangers_leave_no_trace() -> None:
    stranger = used(ClientId("gone/0"), 1)
    assert folded(commit(0, used(NAMES[0], 0))) == Histories(blank(4))
    assert folded(commit(1, stranger)).table.tobytes() == blank(4).tobytes()


def test_a_restart_knows_the_same() -> None:
    world = FakeWorld(config_for({"a": 3}, total=4, min_updates=2, asked=3, cohort=3, max_failed=9))
    world.behave = lambda client, order: "boom" if client == "a/2" and not order.assignment.startswith("0.") else None
    world.run()
    before = world.state.progress.histories
    assert before.row(2)["failed"] > 0
    assert before.row(0)["used"] == 4
    again = restore(world.config, History(tuple(world.commits), tuple(world.plans.values())))
    assert again.progress.histories == before


def test_who_was_missing_from_a_failed_attempt_stands_in_the_next_plan() -> None:
    world = FakeWorld(config_for({"a": 3}, total=1, min_updates=3))
    world.behave = lambda _, order: "boom" if order.assignment == "1.0.a/0" else None
    world.join()
    world.run()
    assert world.plans[1, 1].absences == {"a/0": Absence.FAILED}
    assert world.commits[1].absences == {}  # it made up for it


def test_of_several_attempts_the_last_one_counts() -> None:
    world = FakeWorld(config_for({"a": 3}, total=1, min_updates=2, asked=3, cohort=3))
    world.behave = lambda _, order: (
        "boom" if order.assignment in ("1.0.a/0", "1.0.a/1") else "never" if order.assignment == "1.1.a/0" else None
    )
    world.join()
    world.run()
    assert world.plans[1, 1].absences == {"a/0": Absence.FAILED, "a/1": Absence.FAILED}
    assert world.commits[1].absences == {
        "a/0": Absence.OVERTAKEN
    }  # its last word in this round; the other made up for it
