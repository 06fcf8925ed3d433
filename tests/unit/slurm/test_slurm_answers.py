"""What SLURM answers, recorded from 22.05.8 (v0.0.38) and as 24.11's schema has it, read into values."""

import json
from pathlib import Path

import pytest
import yaml

from muster_slurm.errors import Denied, Full, Limited, Oversized, Refused, Unreachable
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
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", Unreachable),
        ("Host key verification failed.", Denied),
        ("ssh: connect to host login port 22: Connection refused", Unreachable),
        ("root@login: Permission denied (publickey).", Denied),
    ],
)
def test_complaints_of_the_command_line(said, kind):
    error = complaint("sbatch", said)
    assert type(error) is kind
    assert str(error).startswith("sbatch: ")


# What slurm_errno.h's errors mean to a submission; all others refuse it.
MEANINGS = {
    Unreachable: {
        "Unexpected message received", "Communication connection failure", "Message send failure",
        "Message receive failure", "Communication shutdown failure", "I/O stream version number error",
        "Incompatible versions of client and server code", "Insane message length", "Plugin initialization failed",
        "Can't find an address, check slurm.conf", "Unexpected missing socket error",
        "Unable to contact slurm controller (connect failure)", "Unable to contact slurm controller (send failure)",
        "Unable to contact slurm controller (receive failure)", "Slurm backup controller in standby mode",
        "Unable to contact slurm controller (shutdown failure)", "Rate limit exceeded, please retry momentarily",
        "Rate limit exceeded, please retry later", "Controller is in standby mode, try a different controller",
        "Received zero length message", "Received message length < 0", "Failed to send entire message",
        "Header lengths are longer than data received", "Socket timed out on send/recv operation",
        "Zero Bytes were transmitted or received",
    },
    Full: {
        "Resource temporarily unavailable", "Unable to create job record, try again", "Requested nodes are busy",
        "System submissions disabled",
    },
    Limited: {"Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"},
    Oversized: {"Invalid job array specification"},
    Denied: {
        "Protocol authentication error", "Access/permission denied", "Error generating job credential",
        "Invalid authentication credential", "Failed to open authentication public key",
        "Failed to connect to authentication agent", "Authentication credential expired",
        "Authentication credential invalid", "Cannot unpack credential", "Authentication does not apply to request",
    },
}  # fmt: skip
ERRORS = yaml.safe_load(Path(__file__).with_name("slurm_errno.yaml").read_text())


@pytest.mark.parametrize("release", ["22.05", "24.11"])
def test_slurms_own_table_of_errors_means_the_same_by_both_transports(release):
    table = ERRORS["both"] | ERRORS[release]
    unspecified = table.pop(-1)
    meant = {text: kind for kind, texts in MEANINGS.items() for text in texts}
    for number, text in table.items():
        kind = meant.get(text, Refused)
        assert type(error_of("submission", [{"error_number": number, "error": text}])) is kind, (number, text)
        assert type(complaint("sbatch", f"sbatch: error: Batch job submission failed: {text}")) is kind, text
    assert set(meant) <= {text for name in ("both", "22.05", "24.11") for text in ERRORS[name].values()}
    silent = [{"error_number": -1, "error": unspecified, "description": "Failed"}]
    assert type(error_of("submission", silent)) is Unreachable  # slurmrestd says that of a bad token, too


POLICY = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size"
TRYING = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{POLICY}", Full),
        (f"sbatch: error: AssocGrpSubmitJobsLimit\n{POLICY}", Full),
        (f"sbatch: error: AssocMaxSubmitJobLimit\n{POLICY}", Full),
        (f"sbatch: error: MaxSubmitJobsPerAccount\n{POLICY}", Full),
        (f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{POLICY}", Refused),
        (f"sbatch: error: AssocMaxNodePerJobLimit\n{POLICY}", Refused),
        (f"sbatch: error: QOSMaxCpuPerUserLimit\n{POLICY}", Refused),
        (f"sbatch: error: QOSMinGRES\n{POLICY}", Refused),
        (f"sbatch: error: MaxMemoryPerAccount\n{POLICY}", Refused),
        (POLICY, Limited),
        (f"{TRYING}sbatch: error: Batch job submission failed: Requested node configuration is not available", Refused),
        (TRYING, Full),
    ],
)
def test_limits_on_how_many_are_told_from_those_on_what_one_may_ask_for(said, kind):
    assert type(complaint("sbatch", said)) is kind


def test_of_a_program_that_was_ended_nobody_knows_what_it_did():
    assert type(complaint("sbatch", "", 124)) is Unreachable
    assert type(complaint("sbatch", TRYING, 124)) is Full
    assert type(complaint("sbatch", "")) is Refused


def test_a_key_that_slurmrestd_does_not_know_is_a_refusal():
    errors = [{"description": 'Unknown key "x"'}, {"error_code": 9001, "error": "Failure during parsing"}]
    assert type(error_of("submission", errors)) is Refused


def test_an_impossible_size_is_refused_with_the_job_that_would_wait_for_ever():
    answer = {"errors": [{"error_code": 2015, "error": "Requested partition configuration not available now"}]}
    with pytest.raises(Refused) as refusal:
        read_submitted(answer | {"job_id": 9})
    assert refusal.value.job == 9


def test_a_job_that_only_cannot_start_now_waits_in_the_queue():
    errors = [{"error_code": 2068, "error": "Required node not available (down, drained or reserved)"}]
    assert read_submitted({"errors": errors, "job_id": 9}) == 9


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
