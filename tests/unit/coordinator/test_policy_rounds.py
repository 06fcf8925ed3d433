"""When a round closes, and what an update weighs that comes late."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from fake_world import config_for
from muster_coordinator.config import LatePolicy
from muster_coordinator.events import UpdateStaged
from muster_coordinator.instructions import Reason
from muster_coordinator.late import decide_late, expired, owed_after, owed_of
from muster_coordinator.records import AssignmentId, PlannedClient, RoundCommit, RoundPlan, UsedUpdate
from muster_coordinator.rounds import (
    BY_EXAMPLES,
    Commit,
    Extend,
    Fail,
    Retry,
    Wait,
    decide_closing,
    give_up,
    mean_metrics,
    open_round,
    receive,
    reopen_round,
)
from muster_coordinator.state import Failure, Owed, Roster, Round
from muster_spec.clients import ClientId

OPENED = 100.0


def plan_of(cohort: int, close_at: int, minimum: int, attempt: int = 0, number: int = 1) -> RoundPlan:
    places = tuple(
        PlannedClient(
            client=ClientId(f"a/{i}"), assignment=AssignmentId(f"{number}.{attempt}.a/{i}"), seed=i, reason=""
        )
        for i in range(cohort)
    )
    return RoundPlan(
        round=number,
        attempt=attempt,
        base="model-0",
        cohort=places,
        close_at=close_at,
        minimum=minimum,
        deadline_s=60.0,
        epoch=1,
    )


def update(place: int, examples: int = 10) -> UpdateStaged:
    return UpdateStaged(ClientId(f"a/{place}"), AssignmentId(f"1.0.a/{place}"), examples, 1, {"loss": float(place)}, 10)


def round_with(plan: RoundPlan, arrived: int, raised: int = 0, rejected: int = 0) -> Round:
    """The first places hand in, the next raise, the next are rejected, the rest are outstanding."""
    round_ = open_round(plan, OPENED)
    names = [planned.assignment for planned in plan.cohort]
    for name in names[:arrived]:
        client = ClientId(name.split(".")[-1])
        round_, _ = receive(round_, UpdateStaged(client, name, 10, 1, {}, 10), OPENED)
    for place, name in enumerate(names[arrived : arrived + raised + rejected]):
        round_, _ = give_up(round_, name, Failure("KeyError: x" if place < raised else "NaN", raised=place < raised))
    return round_


IN_TIME, AT_DEADLINE = OPENED + 1, OPENED + 60


@pytest.mark.parametrize(
    ("close_at", "arrived", "raised", "rejected", "now", "expected"),
    [
        (5, 4, 0, 0, IN_TIME, Wait),
        (5, 5, 0, 0, IN_TIME, Commit),
        (3, 3, 0, 0, IN_TIME, Commit),  # fastest-K
        (5, 3, 0, 0, AT_DEADLINE, Commit),
        (5, 2, 0, 0, AT_DEADLINE, Retry),
        (5, 3, 1, 1, IN_TIME, Commit),  # nobody is left
        (5, 3, 1, 0, IN_TIME, Wait),
        (5, 1, 2, 1, IN_TIME, Retry),  # one is outstanding, but two could not be three
        (5, 2, 3, 0, IN_TIME, Retry),
        (5, 0, 4, 0, IN_TIME, Wait),  # the fifth decides whose fault it is
        (5, 0, 4, 0, AT_DEADLINE, Retry),
        (5, 0, 0, 5, IN_TIME, Retry),
        (5, 0, 5, 0, IN_TIME, Fail),
    ],
)
def test_when_a_round_of_five_closes(
    close_at: int, arrived: int, raised: int, rejected: int, now: float, expected: type
) -> None:
    round_ = round_with(plan_of(5, close_at, minimum=3), arrived, raised, rejected)
    roster = Roster({ClientId(f"a/{i}"): "w" for i in range(5)})
    decision = decide_closing(round_, config_for({"a": 5}), roster, now)
    assert type(decision) is expected
    assert decision.why


@pytest.mark.parametrize(
    ("policy", "attempt", "extensions", "arrived", "rejected", "expected"),
    [
        ("Retry", 0, 0, 1, 0, Retry),
        ("Retry", 2, 0, 1, 0, Reason.TOO_MANY_FAILED_ROUNDS),
        ("Extend", 0, 1, 1, 0, Extend),
        ("Extend", 0, 2, 1, 0, Reason.TOO_MANY_FAILED_ROUNDS),
        ("Extend", 1, 1, 1, 0, Reason.TOO_MANY_FAILED_ROUNDS),
        ("Extend", 0, 0, 0, 3, Retry),  # the same cohort could never do it
        ("Fail", 0, 0, 1, 0, Reason.NOT_ENOUGH_UPDATES),
    ],
)
def test_what_follows_too_few_updates(
    policy: str, attempt: int, extensions: int, arrived: int, rejected: int, expected: type | Reason
) -> None:
    round_ = replace(round_with(plan_of(4, 4, 2, attempt), arrived, 0, rejected), extensions=extensions)
    decision = decide_closing(round_, config_for({"a": 4}, on_insufficient=policy), Roster(), AT_DEADLINE)
    assert (decision.reason if isinstance(decision, Fail) else type(decision)) == expected


def test_a_task_is_only_blamed_when_nobody_else_is_there_to_try() -> None:
    round_ = round_with(plan_of(2, 2, 1), 0, raised=2)
    cohort = {ClientId("a/0"): "w", ClientId("a/1"): "w"}
    config = config_for({"a": 3})
    assert isinstance(decide_closing(round_, config, Roster(cohort), IN_TIME), Fail)
    assert isinstance(decide_closing(round_, config, Roster({**cohort, ClientId("a/2"): "w"}), IN_TIME), Retry)
    last = decide_closing(round_with(plan_of(2, 2, 1, attempt=2), 0, raised=2), config, Roster(), IN_TIME)
    assert last == Fail(Reason.TASK_FAILED, "the task raised on every client that was asked; a/0: KeyError: x")


def test_a_wait_says_what_for() -> None:
    decision = decide_closing(round_with(plan_of(5, 5, 3), 3), config_for({"a": 5}), Roster(), OPENED + 48)
    assert decision == Wait("3 of 5 updates, 12 s left")


def test_whoever_stands_behind_a_failure_is_in_turn() -> None:
    round_ = open_round(plan_of(3, 3, 2), OPENED)
    round_, folds = receive(round_, update(1), OPENED)
    assert folds == []
    round_, folds = give_up(round_, AssignmentId("1.0.a/0"), Failure("boom", raised=True))
    assert [fold.assignment for fold in folds] == ["1.0.a/1"]
    round_, folds = receive(round_, update(2), OPENED)
    assert [fold.assignment for fold in folds] == ["1.0.a/2"]


def test_a_restart_gives_workers_time_to_come_back() -> None:
    assert reopen_round(plan_of(2, 2, 1), 200.0, reconnect_s=10).deadline == 270
    assert reopen_round(plan_of(1, 1, 1, number=0), 200.0, reconnect_s=10).deadline == 210


def commit_of(number: int, used: tuple[UsedUpdate, ...]) -> RoundCommit:
    return RoundCommit(
        round=number,
        attempt=0,
        epoch=1,
        base="",
        model="",
        used=used,
        failed={},
        failed_attempts=0,
        started_s=0.0,
        seconds=1.0,
        bytes_up=0,
        bytes_down=0,
    )


def test_metrics_are_averaged_by_weight_over_those_who_report_them() -> None:
    def used(number: int, weight: float, metrics: dict[str, float]) -> UsedUpdate:
        name = AssignmentId(f"{number}.{weight}")
        return UsedUpdate(
            client=ClientId("a/0"), assignment=name, round=number, examples=1, weight=weight, steps=1, metrics=metrics
        )

    parts = (used(2, 1, {"loss": 4.0}), used(2, 3, {"loss": 2.0, "top5": 0.5}), used(1, 100, {"loss": 9.0}))
    whole = commit_of(2, parts)
    assert mean_metrics(whole.fresh) == {"loss": 2.5, "top5": 0.5}
    rolling = msgspec.structs.replace(whole, is_rolling=True)  # all of them were made for the version
    assert mean_metrics(rolling.fresh)["loss"] == pytest.approx(910 / 104)
    assert mean_metrics(()) == {}


# --- late -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made_for", "current", "policy", "weight"),
    [
        (3, 4, None, None),
        (3, 4, LatePolicy(1, 0.5), 10 / 2**0.5),
        (2, 4, LatePolicy(2, 1.0), 10 / 3),
        (2, 4, LatePolicy(2, 0.0), 10),
        (2, 4, LatePolicy(1, 0.5), None),
    ],
)
def test_what_a_late_update_weighs(
    made_for: int, current: int, policy: LatePolicy | None, weight: float | None
) -> None:
    late = decide_late(update(0), made_for, current, policy)
    weighed = BY_EXAMPLES.weigh([late.used])[0].weight if late.used else None
    assert weighed == (None if weight is None else pytest.approx(weight))
    assert late.used is None or late.used.round == made_for
    assert late.why


def test_only_those_still_at_work_are_owed() -> None:
    plan = plan_of(4, 1, 1)
    round_ = round_with(plan, 1, raised=1)
    assert owed_after(round_, LatePolicy(1, 1.0)) == ("1.0.a/2", "1.0.a/3")
    assert owed_after(round_, None) == ()
    assert owed_of(plan, ["1.0.a/3"]) == {"1.0.a/3": Owed(ClientId("a/3"), 1, "model-0", 3, place=3)}


@pytest.mark.parametrize(("committed", "gone"), [(1, []), (2, []), (3, ["1.0.a/3"])])
def test_when_late_work_is_given_up(committed: int, gone: list[str]) -> None:
    owed = owed_of(plan_of(4, 1, 1), [AssignmentId("1.0.a/3")])
    assert expired(owed, committed, LatePolicy(2, 1.0)) == gone
