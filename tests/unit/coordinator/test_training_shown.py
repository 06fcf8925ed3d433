"""What the job's status says of a training: told from the engine's state, at every moment of a job's life."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from fake_world import FakeWorld, Order, config_for
from muster_coordinator.announcer import written
from muster_coordinator.events import ClientsLost, StopRequested, UpdateStaged
from muster_coordinator.instructions import OrderTraining, Outcome, Reason
from muster_coordinator.records import AssignmentId, EvaluationRecord, Scores
from muster_coordinator.recovery import after_commit
from muster_coordinator.shown import Training
from muster_coordinator.state import Progress, RoundSummary
from muster_coordinator.training import Circumstances, describe_compression, estimated_end_s, training_of
from muster_spec.clients import ClientId
from muster_spec.schemas import Schema, schema_of

A0, A1, A2 = (ClientId(f"a/{index}") for index in range(3))
OFFSET_S = 1_800_000_000.0


def shown(world: FakeWorld) -> Training:
    return training_of(world.state, Circumstances(OFFSET_S, world.now))


def sent(*, up: int, down: int, plain_up: int, plain_down: int) -> Progress:
    return Progress(bytes_up=up, bytes_down=down, bytes_plain=plain_up + plain_down, bytes_plain_up=plain_up)


def ready(**choices: Any) -> FakeWorld:
    """A world whose first model is made and whose round 1 is open."""
    world = FakeWorld(config_for(**choices))
    world.join()
    assert world.work(A0)
    return world


# --- the schema -------------------------------------------------------------------------------------------------------


def structure(kind: type[msgspec.Struct]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.encode_name: inner(hints[field.name]) for field in msgspec.structs.fields(kind)}


def inner(hint: Any) -> Any:
    for kind in (hint, *get_args(hint)):
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return structure(kind)
    return None


def described(schema: Schema) -> Any:
    schema = schema.get("items", schema)
    return {name: described(each) for name, each in schema["properties"].items()} if "properties" in schema else None


def test_the_fields_are_those_of_the_schema() -> None:
    schema = schema_of("FederatedJob")["properties"]["status"]["properties"]["training"]
    assert structure(Training) | {"updateTime": None} == described(schema)


# --- a job's life -----------------------------------------------------------------------------------------------------


def test_a_job_that_waits_for_clients() -> None:
    value = shown(FakeWorld(config_for()))
    assert (value.phase, value.round, value.progress, value.clients.summary) == ("Gathering", 0, 0, "0/3")
    assert (value.last_round, value.history, value.accuracy, value.estimated_completion_time) == (None, (), None, None)


def test_the_first_model_is_made() -> None:
    world = FakeWorld(config_for())
    world.join()
    assert (shown(world).phase, shown(world).clients.training) == ("Initialising", 1)


def test_an_open_round() -> None:
    world = ready()
    assert world.work(A0)
    value = shown(world)
    assert (value.phase, value.round, value.attempt) == ("Collecting", 0, 0)
    assert (value.clients.connected, value.clients.training, value.clients.submitted) == (3, 2, 1)
    assert value.deadline == "2027-01-15T08:17:40Z"  # 1,060 s after the offset
    world.post(ClientsLost((A1,), "gone"))
    value = shown(world)
    assert (value.clients.summary, value.clients.training, value.clients.lost) == ("2/3", 1, 1)
    world.join()
    assert (shown(world).clients.summary, shown(world).clients.lost) == ("3/3", 0)


def test_a_round_that_is_over_says_how_it_went() -> None:
    world = ready(total=4)
    world.now += 12
    for client in (A0, A1, A2):
        assert world.work(client)
    value = shown(world)
    assert (value.round, value.progress) == (1, 25)
    last = value.last_round
    assert last is not None
    assert last.summary == "3 of 3 in 12 s"
    assert last.outcome == "Committed"
    assert last.reason == (
        "3 of 3 updates are in and nobody else is waited for; 3 clients were asked (all: everybody is asked)"
    )
    assert (last.asked, last.used, last.rejected, last.stragglers) == (3, 3, 0, 0)
    assert value.history == (last,)


def test_stragglers_and_rejected_ones_are_told_apart() -> None:
    wanted = {ClientId("a/2"): "never", ClientId("a/3"): "rejected: too large"}

    def behave(client: ClientId, order: Order) -> str | None:
        return wanted.get(client) if isinstance(order, OrderTraining) else None

    world = FakeWorld(config_for({"a": 4}), behave)
    world.join()
    for client in world.config.clients:
        world.work(client)
    for client in world.config.clients:
        world.work(client)
    world.sleep(60)
    last = shown(world).last_round
    assert last is not None
    assert (last.asked, last.used, last.rejected, last.stragglers) == (4, 2, 1, 1)
    assert last.summary == "2 of 4 in 60 s"
    assert last.reason.startswith("2 updates are in at the deadline; 4 clients were asked")


def test_the_history_is_bounded_and_the_same_after_a_restart() -> None:
    world = FakeWorld(config_for(total=25))
    world.run()
    value = shown(world)
    assert [each.round for each in value.history] == list(range(6, 26))
    assert (value.phase, value.progress, value.estimated_completion_time) == ("Finished", 100, None)
    world.start()
    assert shown(world).history == value.history


def test_a_failed_attempt_is_the_last_round_until_the_next_one_is_over() -> None:
    world = ready()
    world.now += 60
    assert world.work(A0)
    last = shown(world).last_round
    assert last is not None
    assert (last.outcome, last.summary) == ("Failed", "1 of 3 in 60 s, failed")
    assert "updates by the deadline" in last.reason
    assert (last.used, last.stragglers, last.start_time) == (0, 2, None)


def test_a_suspended_job_says_so() -> None:
    world = ready()
    world.post(StopRequested("stopped by SIGTERM"))
    assert world.finish is not None
    assert (world.finish.outcome, world.finish.reason) == (Outcome.SUSPENDED, Reason.STOPPED)
    assert shown(world).phase == "Suspended"
    assert (shown(world).clients.summary, shown(world).clients.lost) == ("0/3", 0)
    assert [pool.connected for pool in shown(world).clients.pools] == [0]


def test_a_round_that_waits_for_clients_for_long_says_whom_it_lacks() -> None:
    world = FakeWorld(config_for({"a": 2, "b": 2}))
    world.join()
    assert world.work(A0)
    for client in world.config.clients:
        world.work(client)
    for client in world.config.clients[:3]:
        world.lose(client)
    world.sleep(120)
    value = shown(world)
    assert (value.phase, value.reason) == ("Gathering", None)  # the failed attempt has only just begun to look anew
    world.sleep(30)
    assert shown(world).reason == "NoQuorum"
    assert shown(world).message == "1 of at least 2 clients are here: a 0 of 2, b 1 of 2"


def test_all_that_is_told_in_the_midst_of_a_job() -> None:
    world = ready(central=True, total=4, epoch=2)
    world.now += 2
    for client in (A0, A1, A2):
        assert world.work(client)
    assert world.work(A0)  # which evaluates the model
    world.now += 1
    for client in (A0, A1):
        assert world.work(client)
    over = {
        "round": 1,
        "summary": "3 of 3 in 2.0 s",
        "outcome": "Committed",
        "reason": "3 of 3 updates are in and nobody else is waited for; 3 clients were asked (all: everybody is asked)",
        "startTime": "1970-01-01T00:00:00Z",
        "seconds": 2.0,
        "asked": 3,
        "used": 3,
        "rejected": 0,
        "stragglers": 0,
        "queued": 0,
        "upBytes": 300,
        "downBytes": 0,
        "metrics": {"loss": 1.0},
    }
    assert json.loads(msgspec.json.encode(written(shown(world), OFFSET_S + world.now))) == {
        "epoch": 2,
        "updateTime": "2027-01-15T08:16:43Z",  # 1,003 s after the offset
        "phase": "Collecting",
        "round": 1,
        "attempt": 0,
        "progress": 25,
        "deadline": "2027-01-15T08:17:42Z",
        "estimatedCompletionTime": "1970-01-01T00:00:08Z",  # as the rounds' times are in this world
        "accuracy": "50.0%",
        "metrics": {"accuracy": 0.5, "loss": 0.5},
        "best": {"round": 1, "metric": "accuracy", "value": 0.5, "model": "model-1"},
        "model": "model-1",
        "compression": "up float32, down float32",
        "clients": {
            "summary": "3/3",
            "total": 3,
            "connected": 3,
            "training": 1,
            "submitted": 2,
            "excluded": 0,
            "queued": 0,
            "lost": 0,
            "pools": [{"name": "a", "total": 3, "connected": 3, "queued": 0}],
        },
        "traffic": {"up": "400 B", "down": "0 B", "upBytes": 400, "downBytes": 0},
        "lastRound": over,
        "history": [over],
    }


# --- measures ---------------------------------------------------------------------------------------------------------


def measured(central: dict[str, float] | None, federated: dict[str, float] | None) -> Training:
    world = ready()
    scores = [Scores(metrics=each, examples=1, clients=1) if each else None for each in (central, federated)]
    record = EvaluationRecord(round=0, model="m", central=scores[0], federated=scores[1])
    state = replace(world.state, progress=replace(world.state.progress, evaluated=record))
    return training_of(state, Circumstances(0.0, world.now))


@pytest.mark.parametrize(
    ("central", "federated", "accuracy", "metrics"),
    [
        ({"accuracy": 0.9314, "loss": 0.2}, None, "93.1%", {"accuracy": 0.9314, "loss": 0.2}),
        (None, {"accuracy": 0.5}, "50.0%", {"accuracy": 0.5}),
        ({"accuracy": 0.9}, {"accuracy": 0.5}, "90.0%", {"accuracy": 0.9, "federated/accuracy": 0.5}),
        ({"loss": 0.25}, None, None, {"loss": 0.25}),
        ({"loss": math.nan}, None, None, None),
    ],
)
def test_accuracy_and_metrics(
    central: dict[str, float] | None, federated: dict[str, float] | None, accuracy: str | None, metrics: Any
) -> None:
    value = measured(central, federated)
    assert (value.accuracy, value.metrics) == (accuracy, metrics)


def test_the_best_model_is_named() -> None:
    world = FakeWorld(config_for(central=True))
    world.run()
    best = shown(world).best
    assert best is not None
    assert (best.round, best.metric, best.value, best.model) == (3, "accuracy", 0.75, "model-3")


# --- when it will be done ---------------------------------------------------------------------------------------------


def rounds(*ends: tuple[int, float, int]) -> Progress:
    summaries = tuple(
        RoundSummary(number, epoch, "Committed", "", 5.0, 1, 1, 0, 0, started_s=end - 5.0)
        for number, end, epoch in ends
    )
    world = ready()
    last = replace_round(world, ends[-1][0])
    return replace(world.state.progress, last=last, rounds=summaries)


def replace_round(world: FakeWorld, number: int) -> Any:
    return msgspec.structs.replace(world.commits[0], round=number)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        (((1, 100.0, 1),), 100 + 9 * 5),
        (((1, 100.0, 1), (2, 110.0, 1), (3, 130.0, 1)), 130 + 7 * 15),
        (((1, 100.0, 1), (2, 9_000.0, 2)), 9_000 + 8 * 5),  # suspended in between
        (((9, 100.0, 1), (10, 110.0, 1)), 110),
    ],
)
def test_the_pace_of_the_last_rounds_is_that_of_the_rest(
    ends: tuple[tuple[int, float, int], ...], expected: float
) -> None:
    assert estimated_end_s(rounds(*ends), 10) == expected


# --- bytes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress(), "up int8, down float32"),
        (sent(up=50, down=101, plain_up=100, plain_down=100), "up int8, down float32; saved 50.0% up"),
        (sent(up=101, down=15, plain_up=100, plain_down=100), "up int8, down float32; saved 85.0% down"),
        (sent(up=7, down=15, plain_up=100, plain_down=200), "up int8, down float32; saved 93.0% up, 92.5% down"),
        (sent(up=101, down=202, plain_up=100, plain_down=200), "up int8, down float32"),
        (sent(up=7, down=15, plain_up=0, plain_down=0), "up int8, down float32"),
    ],
)
def test_the_codecs_and_what_they_save_each_way(progress: Progress, text: str) -> None:
    assert describe_compression("up int8, down float32", progress) == text


def test_what_is_saved_follows_from_the_commits() -> None:
    world = ready(compression="up int8, down float32")
    assert shown(world).compression == "up int8, down float32"
    commit = msgspec.structs.replace(world.commits[0], bytes_up=30, bytes_down=90, bytes_plain=220, bytes_plain_up=120)
    state = replace(world.state, progress=after_commit(Progress(), commit, world.config))
    told = training_of(state, Circumstances(OFFSET_S, world.now))
    assert (told.traffic.up_bytes, told.traffic.down_bytes) == (30, 90)
    assert told.compression == "up int8, down float32; saved 75.0% up, 10.0% down"


def test_an_update_of_a_stranger_changes_nothing() -> None:
    world = ready()
    before = shown(world)
    world.post(UpdateStaged(A0, AssignmentId("9.0.a/0"), 1, 1, {}, 1))
    assert shown(world) == before
