"""`muster run`, disturbed: what is killed comes back, what is stopped can go on, and nothing is left behind."""

import json
import signal
import time

import pytest

from running import gone, muster, running, write_job

SLOW = {"seconds": 0.15}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_ends_soon_and_can_be_gone_on_with(tmp_path, number, code):
    job = write_job(tmp_path, **SLOW)
    with running(job, "--set", "spec.rounds.total=12", "--out", "run", cwd=tmp_path) as run:
        run.committed(2)
        processes = run.processes()
        run.process.send_signal(number)
        exit_code, closing, words = run.finish()
    assert (exit_code, closing["state"]) == (code, "Suspended")
    assert gone(processes, timeout=5)
    assert f"muster run --json {job} --set spec.rounds.total=12 --out run --resume" in words
    again = muster("run", job, "--json", "--set", "spec.rounds.total=12", "--out", "run", "--resume", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    recorded = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [event["round"] for event in recorded if event["event"] == "committed"] == list(range(13))


def test_a_second_ctrl_c_ends_everything_at_once(tmp_path):
    with running(write_job(tmp_path, seconds=30.0), cwd=tmp_path) as run:
        run.until(lambda event: event["event"] == "planned" and event["round"] == 1)
        processes = run.processes()
        run.coordinator().suspend()  # it can't stop by itself now
        run.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(15) == 130  # its tasks would take twice as long for one batch
        assert gone(processes, timeout=5)


def test_a_killed_worker_comes_back(tmp_path):
    with running(write_job(tmp_path, **SLOW), "--set", "spec.rounds.total=14", "--no-baselines", cwd=tmp_path) as run:
        run.committed(2)
        place = len(run.events)
        run.workers()[0].kill()
        died = run.until(lambda event: event["event"] == "process", place)
        assert "killed by signal 9; it is started again (1)" in died["message"]
        run.until(lambda event: event["event"] == "joined" and event["clients"] == died["clients"], place)
        code, closing, words = run.finish()
    assert (code, closing["state"], closing["rounds"]) == (0, "Complete", 14), words
    assert run.rounds() == list(range(15))


def test_a_killed_coordinator_comes_back_and_no_round_is_lost_or_done_twice(tmp_path):
    with running(write_job(tmp_path, **SLOW), "--set", "spec.rounds.total=14", "--no-baselines", cwd=tmp_path) as run:
        for number in (2, 6):
            run.committed(number)
            place = len(run.events)
            run.coordinator().kill()
            assert "coordinator killed by signal 9" in run.until(lambda e: e["event"] == "process", place)["message"]
            run.until(lambda event: event["event"] == "resumed", place)
        code, closing, words = run.finish()
    assert (code, closing["state"], closing["rounds"]) == (0, "Complete", 14), words
    stored = sorted(int(path.stem) for path in (tmp_path / closing["folder"] / "checkpoint/rounds").glob("*.json"))
    assert stored == list(range(15))


def test_a_killed_nursery_comes_back_with_its_workers(tmp_path):
    with running(write_job(tmp_path, **SLOW), "--set", "spec.rounds.total=8", "--no-baselines", cwd=tmp_path) as run:
        run.committed(2)
        workers = run.workers()
        run.nursery().kill()
        assert gone(workers)
        code, closing, words = run.finish()
    assert (code, closing["state"], closing["rounds"]) == (0, "Complete", 8), words


def test_a_killed_runner_leaves_nothing_behind_and_its_run_can_be_gone_on_with(tmp_path):
    job = write_job(tmp_path, **SLOW)
    with running(job, "--out", "run", "--no-baselines", cwd=tmp_path) as run:
        run.committed(1)
        processes = run.processes()
        assert len(processes) == 6  # coordinator, nursery, four workers
        run.process.kill()
        assert gone(processes)
    again = muster("run", job, "--resume", "--out", "run", "--json", "--no-baselines", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[-1])["rounds"] == 4


def test_ctrl_c_while_the_baselines_are_measured_only_skips_them(tmp_path):
    with running(write_job(tmp_path, seconds=0.5), "--set", "spec.rounds.total=2", cwd=tmp_path) as run:
        run.until(lambda event: event["event"] == "baselines")
        run.process.send_signal(signal.SIGINT)
        code, closing, words = run.finish()
    assert (code, closing["state"]) == (0, "Complete"), words
    assert None in closing["baselines"].values()
