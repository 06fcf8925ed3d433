"""What a watcher sees: events fold into a view, and a view becomes a picture and lines."""

from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from muster_cli.lines import duration, line_of, percent, size
from muster_cli.screen import render, result_table, sparkline
from muster_cli.view import ClientState, View, fold, fold_all

RUN = {
    "event": "run",
    "time": 0.0,
    "job": "digits",
    "folder": "muster-runs/digits/x",
    "total": 3,
    "pools": [{"name": "cloud", "type": "Kubernetes", "clients": 2}, {"name": "hpc", "type": "Slurm", "clients": 1}],
    "clients": ["cloud/0", "cloud/1", "hpc/0"],
}
LISTENING = {"event": "listening", "time": 0.5, "address": "127.0.0.1:4242"}
JOINED = {"event": "joined", "time": 1.0, "worker": "w", "clients": ["cloud/0", "cloud/1", "hpc/0"], "device": "cpu"}


def planned(number, cohort, time, attempt=0):
    return {"event": "planned", "time": time, "round": number, "attempt": attempt, "total": 3, "cohort": cohort,
            "deadlineSeconds": 60, "reasons": {}}  # fmt: skip


def received(number, client, time):
    return {
        "event": "received",
        "time": time,
        "round": number,
        "client": client,
        "examples": 10,
        "bytes": 100,
        "metrics": {},
    }


def committed(number, used, time, loss=0.5):
    return {"event": "committed", "time": time, "round": number, "total": 3, "used": used, "failed": {}, "seconds": 2.0,
            "metrics": {"loss": loss}, "bytesUp": 1000, "bytesDown": 2000}  # fmt: skip


def evaluated(number, accuracy):
    return {
        "event": "evaluated",
        "time": 5.0,
        "round": number,
        "central": {"accuracy": accuracy, "loss": 0.3},
        "federated": None,
    }


STARTED = [RUN, LISTENING, JOINED]
ROUND_1 = [planned(1, ["cloud/0", "hpc/0"], 10.0), received(1, "hpc/0", 11.0)]


def test_clients_by_state_in_each_pool():
    view = fold_all(View(), [*STARTED, *ROUND_1])
    assert view.states_of("cloud") == {ClientState.TRAINING: 1, ClientState.READY: 1}
    assert view.states_of("hpc") == {ClientState.DONE: 1}
    assert (view.received, view.deadline, view.phase) == (1, 70.0, "training")


def test_a_commit_sets_everybody_at_rest_and_adds_the_bytes_up():
    view = fold_all(View(), [*STARTED, *ROUND_1, committed(1, 1, 12.0), committed(2, 1, 14.0)])
    assert view.states_of("hpc") == {ClientState.READY: 1}
    assert (view.committed, view.bytes_up, view.bytes_down, view.updates, view.deadline) == (2, 2000, 4000, 2, None)


def test_the_first_model_is_no_update_of_a_client():
    assert fold_all(View(), [*STARTED, committed(0, 1, 2.0)]).updates == 0


def test_loss_is_taken_from_where_it_is_measured_best():
    view = fold_all(View(), [*STARTED, *ROUND_1, committed(1, 0, 12.0, loss=0.7)])
    assert view.loss == 0.7
    assert fold(view, evaluated(1, 0.9)).loss == 0.3


def test_a_lost_client_stays_lost_until_it_joins_again():
    view = fold_all(View(), [*STARTED, {"event": "lost", "time": 3.0, "clients": ["hpc/0"], "reason": "gone"}])
    view = fold(view, committed(1, 0, 4.0))
    assert view.clients["hpc/0"] is ClientState.LOST
    assert fold(view, JOINED).clients["hpc/0"] is ClientState.READY


def test_joining_again_does_not_undo_what_was_received():
    assert fold_all(View(), [*STARTED, *ROUND_1, JOINED]).clients["hpc/0"] is ClientState.DONE


def test_eta_follows_the_pace_of_the_last_rounds():
    view = fold_all(View(), [*STARTED, committed(1, 0, 10.0)])
    assert view.eta_s(11.0) is None
    assert fold(view, committed(2, 0, 14.0)).eta_s(15.0) == pytest.approx(3.0)


def test_training_time_runs_from_the_first_plan_to_the_end():
    view = fold_all(View(), [*STARTED, planned(0, ["cloud/0"], 5.0), planned(1, ["cloud/0"], 9.0)])
    assert view.training_s(12.0) == 7.0
    ended = fold(
        view, {"event": "finished", "time": 20.0, "outcome": "Complete", "rounds": 1, "bytesUp": 7, "bytesDown": 9}
    )
    assert (ended.training_s(99.0), ended.committed, ended.bytes_up, ended.bytes_down) == (15.0, 1, 7, 9)


def test_without_a_test_set_the_accuracy_is_that_on_the_clients_own_data():
    federated = {**evaluated(2, 0.0), "central": None, "federated": {"accuracy": 0.8}}
    view = fold_all(View(total=3), [committed(2, 1, 10.0), federated])
    assert (view.accuracy, view.final_accuracy, view.curve) == (0.8, 0.8, (0.8,))
    assert fold(view, evaluated(2, 0.9)).final_accuracy == 0.9
    both = fold_all(View(total=3), [committed(2, 1, 10.0), evaluated(2, 0.9), federated])
    assert (both.accuracy, both.curve) == (0.9, (0.9,))


def test_the_final_accuracy_is_the_last_models_or_none():
    view = fold_all(View(), [*STARTED, committed(2, 1, 9.0), evaluated(2, 0.9)])
    assert view.final_accuracy == 0.9
    assert fold(view, committed(3, 1, 11.0)).final_accuracy is None


def test_going_on_keeps_what_was_learnt_and_forgets_the_clock():
    before = fold_all(View(), [*STARTED, *ROUND_1, committed(1, 1, 12.0), evaluated(1, 0.9)])
    view = fold_all(before, [RUN, {"event": "resumed", "time": 50.0, "round": 2, "attempt": 0, "committed": 1}])
    assert (view.committed, view.accuracy, view.bytes_up, view.updates) == (1, 0.9, 1000, 1)
    assert (view.training_s(60.0), view.eta_s(60.0), view.states_of("cloud")) == (10.0, None, {ClientState.AWAITED: 2})


def test_baselines_arrive():
    view = fold(View(), {"event": "baselines", "time": 0.0, "phase": "finished", "pooled": 0.97, "localOnly": None})
    assert view.baselines == {"pooled": 0.97, "localOnly": None}


@given(st.text(), st.dictionaries(st.text(), st.integers()))
def test_an_unknown_event_changes_nothing(name, fields):
    event = {**fields, "event": f"x-{name}"}
    assert fold(View(), event) == View()


def picture(view, now=12.0):
    out = StringIO()
    Console(file=out, width=120).print(render(view, now))
    return out.getvalue()


def test_the_picture_has_what_a_watcher_wants_to_know():
    text = picture(fold_all(View(), [*STARTED, *ROUND_1, evaluated(0, 0.931)]))
    for words in (
        "digits",
        "round 0/3",
        "1/2 updates",
        "deadline 0:58",
        "1 training",
        "1 done",
        "93.1 %",
        "local processes",
    ):
        assert words in text


def test_a_picture_can_be_drawn_before_anything_is_known():
    assert "starting" in picture(View())


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            committed(2, 1, 12.0),
            "round   2/3  1/1 updates  training loss 0.5000  2.0 s  up 1.0 kB  down 2.0 kB",
        ),
        (committed(0, 1, 12.0), "first model made"),
        (evaluated(2, 0.9), "round   2/3  evaluated: central accuracy 0.9000 loss 0.3000"),
        ({"event": "warning", "time": 0.0, "message": "careful"}, "careful"),
        (
            {"event": "rejected", "time": 0.0, "round": 1, "client": "hpc/0", "reason": "not finite"},
            "hpc/0: not finite",
        ),
        (received(1, "hpc/0", 11.0), None),
    ],
)
def test_lines_for_pipes(event, line):
    assert line_of(fold_all(View(), [*STARTED, *ROUND_1, event]), event) == line


def test_the_result_stands_beside_the_baselines():
    view = fold_all(
        View(),
        [
            committed(3, 1, 9.0),
            evaluated(3, 0.93),
            {"event": "baselines", "phase": "finished", "pooled": 0.97, "localOnly": 0.31},
        ],
    )
    out = StringIO()
    Console(file=out, width=100).print(result_table(view))
    assert [line.split()[-2] for line in out.getvalue().splitlines() if "%" in line] == ["93.0", "97.0", "31.0"]


@pytest.mark.parametrize(("bars", "curve"), [("", ()), ("█", (0.5,)), ("▁█", (0.1, 0.9)), ("▁▅█", (0.0, 0.55, 1.0))])
def test_sparkline(bars, curve):
    assert sparkline(curve) == bars


def test_figures_for_people():
    assert [size(n) for n in (12, 1500, 2_000_000, 3e15)] == ["12 B", "1.5 kB", "2.0 MB", "3000.0 TB"]
    assert [duration(s) for s in (None, 5, 65, 3661)] == ["–", "0:05", "1:05", "1:01:01"]
    assert [percent(f) for f in (None, 0.931)] == ["–", "93.1 %"]
