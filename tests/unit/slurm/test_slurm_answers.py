"""What SLURM answers, recorded from 22.05.8 (v0.0.38) and as 24.11's schema has it, read into values."""

import json

import pytest

from muster_slurm.errors import Denied, Full, Refused, Unreachable
from muster_slurm.jobs import Exit
from muster_slurm.openapi import choose_version, error_of, read_job, read_submitted
from muster_slurm.squeue import error_of as complaint
from muster_slurm.squeue import parse_listing, parse_max_array, parse_submitted

OFFERED = json.dumps({"paths": {f"/slurm/v0.0.{number}/jobs": {} for number in (36, 37, 38)}})
PENDING_38 = {
    "job_id": 19, "array_job_id": 19, "array_task_id": None, "array_task_string": "8-19,30,32", "job_state": "PENDING",
    "state_reason": "Resources", "start_time": 1795393080, "exit_code": 0, "restart_cnt": 0, "name": "arr",
    "comment": "k/1", "nodes": "",
}  # fmt: skip
FAILED_38 = {
    "job_id": 2, "array_job_id": 1, "array_task_id": 0, "array_task_string": "", "job_state": "FAILED",
    "state_reason": "NonZeroExitCode", "start_time": 1795392262, "exit_code": 1792, "restart_cnt": 0, "name": "nnn",
    "end_time": 1795392300,
    "comment": "hello/there", "nodes": "n1",
}  # fmt: skip
FAILED_40 = {
    "job_id": 2, "array_job_id": {"set": True, "infinite": False, "number": 1},
    "array_task_id": {"set": True, "infinite": False, "number": 0}, "array_task_string": "", "job_state": ["FAILED"],
    "state_reason": "NonZeroExitCode", "start_time": {"set": True, "infinite": False, "number": 1795392262},
    "end_time": {"set": True, "infinite": False, "number": 1795392300},
    "exit_code": {"status": ["ERROR"], "return_code": {"set": True, "infinite": False, "number": 7},
                  "signal": {"id": {"set": False, "infinite": False, "number": 0}, "name": ""}},
    "restart_cnt": 0, "name": "nnn", "comment": "hello/there", "nodes": "n1",
}  # fmt: skip


@pytest.mark.parametrize("record", [FAILED_38, FAILED_40], ids=["v0.0.38", "v0.0.40"])
def test_both_forms_of_a_record_say_the_same(record):
    job = read_job(record)
    assert (job.id, job.array, job.tasks, job.states, job.exit) == (2, 1, (0,), ("FAILED",), Exit(7))
    assert (job.comment, job.nodes, job.starts, job.ends) == ("hello/there", "n1", 1795392262, 1795392300)


def test_pending_tasks_share_a_record():
    job = read_job(PENDING_38)
    assert (job.array, job.tasks, job.is_rest) == (19, (*range(8, 20), 30, 32), False)
    assert read_job(PENDING_38 | {"array_task_string": "8,10,..."}).is_rest


def test_a_job_that_is_no_array_stands_for_itself():
    job = read_job(FAILED_38 | {"array_job_id": 0, "array_task_id": None})
    assert (job.id, job.array, job.tasks) == (2, 2, ())


def test_a_record_of_nothing_is_read_too():
    assert read_job({}).states == ()


def test_squeues_lines():
    lines = [
        "19|8|19|PENDING|0|0|2026-11-23T00:18:00|N/A||Resources|arr|k/1|\n",
        "19|0|20|RUNNING|0|1|2026-11-23T00:08:10|2026-11-23T00:10:10|n1|None|arr|k/1|\n",
        "28|N/A|28|FAILED|36608|0|2026-11-23T00:08:11|2026-11-23T00:09:11|n2|NonZeroExitCode|arr|k/1|\n",
        "a comment over\n",
        "9|N/A|9|RUNNING|0|0|2026-11-23T00:08:11|N/A|n2|None|else's|zz|\n",
    ]
    waiting, running, failed = parse_listing(lines, "k/")
    assert (waiting.array, waiting.tasks, waiting.states, waiting.reason) == (19, (8,), ("PENDING",), "Resources")
    assert (running.id, running.restarts, running.nodes, running.starts) == (20, 1, "n1", 1795392490)
    assert (waiting.ends, running.ends) == (0, 1795392490 + 120)
    assert (failed.exit, failed.tasks) == (Exit(143), ())


@pytest.mark.parametrize(
    ("told", "exit_"),
    [
        ("1792", Exit(7)),
        ("9", Exit(0, 9)),
        ("7:0", Exit(7)),
        ("0:9", Exit(0, 9)),
        ("0:0", Exit()),
        ("N/A", Exit()),
        ("7:", Exit()),
    ],
)
def test_how_it_ended_in_the_words_of_both_releases(told, exit_):
    [job] = parse_listing([f"28|N/A|28|FAILED|{told}|0|2026-11-23T00:08:11|N/A|n2|NonZeroExitCode|arr|k/1|\n"], "k/")
    assert job.exit == exit_


def test_sbatchs_answer():
    assert parse_submitted("1234\n") == 1234
    assert parse_submitted("a warning of the site\n1234;cluster\n") == 1234
    with pytest.raises(Unreachable):
        parse_submitted("Hello!")


def test_max_array_size():
    assert parse_max_array("MaxArraySize            = 101\nMinJobAge = 60") == 101
    assert parse_max_array("") == 1001


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("sbatch: error: Batch job submission failed: Invalid partition name specified", Refused),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates", Full),
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", Unreachable),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", Unreachable),
        ("Host key verification failed.", Denied),
        ("ssh: connect to host login port 22: Connection refused", Unreachable),
        ("root@login: Permission denied (publickey).", Denied),
    ],
)
def test_complaints_of_the_command_line(said, kind):
    error = complaint("sbatch", said)
    assert type(error) is kind
    assert str(error).startswith("sbatch: ")


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ([{"error_code": 2000, "error": "Invalid partition name specified"}], Refused),
        ([{"error_code": 2014, "error": "Requested node configuration is not available"}], Refused),
        ([{"error_number": 1007, "error": "Protocol authentication error"}], Denied),
        ([{"error_number": 2064, "error": "Job violates limits"}], Full),
        ([{"error_number": -1, "error": "Unspecified error", "description": "Failed"}], Unreachable),
        ([{"description": "Unknown key \"x\""}, {"error_code": 9001, "error": "Failure during parsing"}], Refused),
    ],
)  # fmt: skip
def test_complaints_of_slurmrestd(errors, kind):
    assert type(error_of("submission", errors)) is kind


def test_an_impossible_size_is_refused_with_the_job_that_would_wait_for_ever():
    answer = {"errors": [{"error_code": 2015, "error": "Requested partition configuration not available now"}]}
    with pytest.raises(Refused) as refusal:
        read_submitted(answer | {"job_id": 9})
    assert refusal.value.job == 9


def test_an_answer_without_a_job_may_have_been_carried_out():
    with pytest.raises(Unreachable):
        read_submitted({"errors": []})


def test_where_the_id_stands_in_newer_answers():
    assert read_submitted({"errors": [], "job_id": 5}) == 5
    assert read_submitted({"errors": [], "result": {"job_id": 6}}) == 6


def test_the_newest_version_that_both_know():
    assert choose_version(OFFERED, None) == 38
    assert choose_version(OFFERED.replace("/", "\\/"), None) == 38
    both = OFFERED + '"/slurm/v0.0.42/jobs" "/slurm/v0.0.41/jobs" "/slurm/v0.0.99/jobs"'
    assert choose_version(both, None) == 42
    assert choose_version(both, "v0.0.41") == 41


@pytest.mark.parametrize("asked", [None, "v0.0.40", "v0.0.37"])
def test_no_version_in_common(asked):
    offered = OFFERED if asked else OFFERED.replace("38", "39")
    with pytest.raises(Refused, match=r"v0\.0\.3[789]"):
        choose_version(offered, asked)
