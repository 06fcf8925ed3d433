"""The bridge over a real SLURM, by REST and by the command line: what goes in, and what comes of every trouble."""

import json
import signal
import time

import pytest

from attending import attended
from muster_wire.v1 import federation_pb2 as pb
from slurming import SECRET, bridging, by_commands, by_rest, let_end, manifest, said, wait_until, write_secret
from snooping import dropping_first_answer


@pytest.fixture(params=["rest", "commands"])
def how(request, slurm, tmp_path):
    return by_rest(slurm, tmp_path) if request.param == "rest" else by_commands()


def started(folder, count=2):
    wait_until(lambda: len(said(folder, "start")) >= count, lambda: f"{said(folder)}")


def end_well(slurm, bridge, folder):
    """Let the workers end, and the bridge with them."""
    let_end(folder)
    slurm.until(lambda: not slurm.queue())
    bridge.tell(over=True)
    assert bridge.close()[0] == 0


def test_workers_run_and_nothing_is_left(slurm, tmp_path, how):
    with bridging(slurm, tmp_path, manifest(tmp_path, how)) as bridge:
        event = bridge.until("submitted")
        started(tmp_path)
        slurm.until(lambda: {state for _, _, state, *_ in slurm.jobs("running")} == {"RUNNING"})
        [script] = [slurm.tell("scontrol", "write", "batch_script", str(event["job"]), "-")]
        shown = slurm.tell("scontrol", "show", "job", str(event["job"])) + script
        end_well(slurm, bridge, tmp_path)
    assert {line[-1] for line in said(tmp_path, "start")} == {"0", "1"}  # the index of its one client
    assert len(bridge.submissions()) == 1
    assert SECRET not in shown
    assert "MUSTER_JOIN=" not in shown
    assert len(said(tmp_path, "bundle", "eyJhIjogImJ1")) == 2
    assert len(said(tmp_path, "secret", str(len(SECRET)))) == 2  # they are in the environment, and nowhere else


def test_a_preempted_job_is_put_back_by_slurm_and_not_submitted_again(slurm, tmp_path, how):
    with bridging(slurm, tmp_path, manifest(tmp_path, how, more="partition: low")) as bridge:
        bridge.until("submitted")
        started(tmp_path)
        slurm.preempt(2)
        assert {line[0] for line in said(tmp_path, "term")} == {"0", "1"}
        slurm.until_started(lambda: len(said(tmp_path, "start")) == 4)
        assert {line[1] for line in said(tmp_path, "start")} == {"0", "1"}
        end_well(slurm, bridge, tmp_path)
    assert len(bridge.submissions()) == 1


def test_slurmctld_may_be_away(slurm, tmp_path, how):
    with bridging(slurm, tmp_path, manifest(tmp_path, how)) as bridge:
        bridge.until("submitted")
        started(tmp_path)
        slurm.kill("slurmctld", signal.SIGTERM)  # with -9 it forgets what it hasn't saved, and holds the jobs
        bridge.until("warning")
        slurm.repair()
        bridge.until("answers")
        assert len(slurm.jobs("running")) == 2
        end_well(slurm, bridge, tmp_path)
    assert len(bridge.submissions()) == 1
    assert len(said(tmp_path, "start")) == 2


def jobs_of(slurm, folder):
    """The jobs that SLURM knows of the bridge in this folder, ended ones too."""
    uid = json.loads((folder / "job.json").read_text())["uid"]
    return {job[0] for job in slurm.jobs() if f"/{uid}/" in job[5]}


def test_slurmctld_may_be_away_for_a_minute_in_which_workers_are_wanted(slurm, tmp_path):
    """One pool's worker is due again meanwhile, and the other's job begins: each is submitted once, when it is back."""
    first, second = (tmp_path / name for name in ("first", "second"))
    for folder in (first, second):
        folder.mkdir()
    with bridging(slurm, first, manifest(first, by_rest(slurm, first), clients=1)) as again:
        event = again.until("submitted")
        started(first, 1)
        slurm.tell("scancel", str(event["job"]))
        again.until("failed", "CANCELLED")  # it is due in five seconds
        slurm.kill("slurmctld", signal.SIGTERM)
        began = time.monotonic()
        with bridging(slurm, second, manifest(second, by_commands(), clients=1)) as anew:
            again.until("warning")
            anew.until("warning")
            while (away_s := time.monotonic() - began) < 60:
                assert slurm.is_away()
                time.sleep(1)
            assert (len(again.submissions()), len(anew.submissions())) == (1, 0)
            slurm.repair()
            assert not slurm.is_away()
            started(first, 2)
            started(second, 1)
            let_end(first)
            end_well(slurm, anew, second)
        end_well(slurm, again, first)
    assert away_s >= 60
    assert (len(again.submissions()), len(anew.submissions())) == (2, 1)
    assert jobs_of(slurm, second) == {str(anew.submissions()[0]["job"])}
    assert jobs_of(slurm, first) <= {str(event["job"]) for event in again.submissions()}  # one may be forgotten
    assert (len(said(first, "start")), len(said(second, "start"))) == (2, 1)


def test_a_token_that_expired_is_read_anew(slurm, tmp_path):
    with bridging(slurm, tmp_path, manifest(tmp_path, by_rest(slurm, tmp_path))) as bridge:
        bridge.until("submitted")
        started(tmp_path)
        write_secret(tmp_path, "token", slurm.token(lifespan_s=1))
        bridge.until("warning", "token")
        write_secret(tmp_path, "token", slurm.token())
        bridge.until("answers")
        end_well(slurm, bridge, tmp_path)
    assert len(bridge.submissions()) == 1


def test_a_job_cancelled_by_hand_is_a_failure_and_submitted_again(slurm, tmp_path, how):
    with bridging(slurm, tmp_path, manifest(tmp_path, how, clients=1)) as bridge:
        event = bridge.until("submitted")
        started(tmp_path, 1)
        slurm.tell("scancel", str(event["job"]))
        bridge.until("failed", "CANCELLED")
        started(tmp_path, 2)
        end_well(slurm, bridge, tmp_path)
    assert len(bridge.submissions()) == 2


def test_who_keeps_failing_is_given_up(slurm, tmp_path):
    let_end(tmp_path, 7)
    with bridging(slurm, tmp_path, manifest(tmp_path, by_commands(), clients=1, limit=1)) as bridge:
        bridge.until("failed", "exit code 7")
        bridge.until("givenUp", "2 failures")
        code, words = bridge.close()
    assert code == 2
    assert "every worker of pool hpc is given up" in words


def test_a_submission_whose_answer_is_lost_is_found_again(slurm, tmp_path):
    with dropping_first_answer(slurm.url, "/job/submit") as (url, dropped):
        how = by_rest(slurm, tmp_path).replace(slurm.url, url)
        with bridging(slurm, tmp_path, manifest(tmp_path, how)) as bridge:
            bridge.until("warning", "submit")
            assert len(dropped) == 1
            started(tmp_path)
            bridge.until("queue", "2 running")
            time.sleep(2)
            assert len(slurm.jobs("running")) == 2
            end_well(slurm, bridge, tmp_path)
    assert len(said(tmp_path, "start")) == 2


def test_a_killed_bridge_finds_its_jobs_again(slurm, tmp_path, how):
    file = manifest(tmp_path, how)
    with bridging(slurm, tmp_path, file) as bridge:
        bridge.until("submitted")
        started(tmp_path)
        bridge.process.send_signal(signal.SIGKILL)
    (tmp_path / "ledger").write_bytes((tmp_path / "ledger").read_bytes().replace(b'"job":', b'"jib":'))  # no id
    with bridging(slurm, tmp_path, file) as bridge:
        bridge.until("queue", "2 running")
        end_well(slurm, bridge, tmp_path)
    assert bridge.submissions() == []


def test_stopping_cancels_what_runs_and_what_waits(slurm, tmp_path, how):
    with bridging(slurm, tmp_path, manifest(tmp_path, how, clients=12)) as bridge:
        bridge.until("queue", "8 running, 4 waiting")
        started(tmp_path, 8)
        assert bridge.close()[0] == 0
    assert slurm.queue() == ""
    assert {line[0] for line in said(tmp_path, "term")} == set(map(str, range(8)))


def test_a_pods_bridge_finds_its_jobs_without_a_ledger_and_cancels_them_when_told_to_end(slurm, tmp_path, how):
    file = manifest(tmp_path, how, clients=2)
    with bridging(slurm, tmp_path, file, "--alone") as bridge:
        bridge.until("submitted")
        started(tmp_path)
        bridge.process.send_signal(signal.SIGKILL)
    (tmp_path / "ledger").unlink()
    with bridging(slurm, tmp_path, file, "--alone") as bridge:
        bridge.until("queue", "2 running")
        assert len(slurm.jobs("running")) == 2
        bridge.process.send_signal(signal.SIGTERM)
        assert bridge.close()[0] == 143  # its Job isn't complete: another bridge is to come
    assert (bridge.submissions(), slurm.queue()) == ([], "")


def test_a_pods_bridge_leaves_by_itself_when_its_workers_have(slurm, tmp_path):
    let_end(tmp_path, 0)
    with bridging(slurm, tmp_path, manifest(tmp_path, by_commands()), "--alone", "--workers", "1") as bridge:
        assert bridge.process.wait(60) == 0
        bridge.close()
    assert [event["slots"] for event in bridge.submissions()] == [[0]]


def test_what_slurm_has_forgotten_is_judged_by_what_the_coordinator_saw(slurm, tmp_path):
    file = manifest(tmp_path, by_rest(slurm, tmp_path), clients=2)
    with bridging(slurm, tmp_path, file) as bridge:
        event = bridge.until("submitted")
        started(tmp_path)
        bridge.process.send_signal(signal.SIGKILL)
    let_end(tmp_path, 0)
    slurm.until(lambda: "Invalid" in slurm.tell("sh", "-c", f"scontrol show job {event['job']} 2>&1 || true"))
    (tmp_path / "exit").unlink()
    with attended(present=[0]) as (_, bundle), bridging(slurm, tmp_path, file, attend=bundle) as bridge:
        bridge.until("failed", "worker 1 failed: SLURM no longer knows its job")
        again = bridge.until("submitted")
        assert again["slots"] == [1]
        end_well(slurm, bridge, tmp_path)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("partition: none", "nvalid partition"),
        ("memory: 900000G", "node configuration is not available"),
        ("constraint: moon", "nvalid feature"),
        ("reservation: never", "reservation is invalid"),
    ],
)
def test_what_can_never_run_ends_the_pool_with_slurms_reason(slurm, tmp_path, how, more, words):
    with bridging(slurm, tmp_path, manifest(tmp_path, how, more=more)) as bridge:
        code, said_last = bridge.process.wait(60), bridge.process.stderr.read().decode()
    assert code == 2
    assert words in said_last


@pytest.mark.parametrize("transport", ["rest", "commands"])
def test_a_pool_beyond_max_array_size_is_several_arrays(slurm, tmp_path, transport):
    let_end(tmp_path, 0)
    how = by_rest(slurm, tmp_path) if transport == "rest" else by_commands()
    with bridging(slurm, tmp_path, manifest(tmp_path, how, clients=103)) as bridge:
        bridge.until("submitted", ": 0-1" if transport == "commands" else ": 0")
        assert bridge.close()[0] == 0
    sizes = sorted(len(event["slots"]) for event in bridge.submissions())
    assert sizes == ([2, 101] if transport == "commands" else [1, 51, 51])  # slurmrestd doesn't tell it
    assert sorted(slot for event in bridge.submissions() for slot in event["slots"]) == [*range(103)]


FILLED = ("-p", "high", "-N3", "--exclusive", "-t", "5", "-o", "/dev/null", "--wrap", "sleep 300")
WHOLE_NODES = "partition: low\n                cpusPerTask: 2"


def test_the_coordinator_hears_who_waits_and_how_long_the_others_may_run(slurm, tmp_path, how):
    slurm.tell("sbatch", *FILLED)
    slurm.until(lambda: len(slurm.jobs("running")) == 1)
    file = manifest(tmp_path, how, clients=3, more=WHOLE_NODES)
    with attended(present=[]) as (coordinator, bundle), bridging(slurm, tmp_path, file, attend=bundle) as bridge:
        bridge.until("queue", "1 running, 2 waiting")
        said = coordinator.until(lambda request: starts_in_s(request) > 0 and runs(request), within_s=60)
        assert starts_in_s(said) <= 300  # as SLURM estimates
        [running] = runs(said)
        assert sum(len(each.indices) for each in said.allocations) == 3
        assert running.lasts_ms == 1000 * (600 - 10 - 60)  # the limit, signalSeconds, and what SLURM may be early
        assert running.lasts_ms - 60_000 < running.ends_in_ms <= running.lasts_ms
        slurm.tell("scancel", "--user=root", "--partition=high")
        started(tmp_path, 3)
        coordinator.until(lambda request: sum(len(each.indices) for each in runs(request)) == 3)
        end_well(slurm, bridge, tmp_path)


def runs(request):
    return [each for each in request.allocations if each.state == pb.Allocation.STATE_RUNNING]


def starts_in_s(request):
    """Until the first of those that wait should start; 0 where nobody knows, or nobody waits."""
    return min((each.starts_in_ms / 1000 for each in request.allocations if each.starts_in_ms), default=0)
