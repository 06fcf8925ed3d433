"""v0.0.43 and v0.0.44 of slurmrestd, by contract: what we send has the form of their OpenAPI documents, and what has it
is read.

No SLURM that speaks them is to be had where this is developed, so what such a one does with it isn't shown here.
"""

import json

import jsonschema
import pytest

from muster_slurm.errors import Denied, Full, Refused
from muster_slurm.jobs import Exit
from muster_slurm.ledger import Submission
from muster_slurm.openapi import SPOKEN, choose_version, error_of, read_job, read_submitted, submission
from muster_slurm.records import Listed
from muster_slurm.request import Keys, Tag, build_request
from muster_slurm.states import PHASES, Phase
from slurm_forms import ERRORS, STATES, SUBMISSION, SUBMITTED, VERSIONS, listing, record
from slurm_pools import BY_REST, everything, slurm_job
from slurms.stub import VERSIONS as VERSIONS_RECORDED
from slurms.stub import recorded


def number(value):
    return {"set": True, "infinite": False, "number": value}


UNSET = {"set": False, "infinite": False, "number": 0}


def job(task, *states, code=0, **more):
    """A record; of the array's tasks that wait, one stands for all."""
    which = {"array_task_id": number(task), "array_task_string": ""}
    ended = {"status": ["ERROR"], "return_code": number(code), "signal": {"id": UNSET, "name": ""}}
    return {
        "job_id": 20 + (task or 0), "array_job_id": number(19), "name": "n", "comment": "muster/u/hpc/0/4/0",
        "job_state": list(states), "state_reason": "None", "nodes": "n1", "restart_cnt": 1, "exit_code": ended,
        "start_time": number(1795392262), "end_time": number(1795392300),
    } | which | more  # fmt: skip


WAITING = job(None, "PENDING", array_task_id=UNSET, array_task_string="2-3", nodes="", start_time=number(0))
ANSWER = {
    "jobs": [job(0, "RUNNING"), job(1, "FAILED", code=7), WAITING],
    "last_backfill": number(1795392000),
    "last_update": number(1795392000),
    "errors": [],
    "warnings": [],
}


def request_of(folder, slurm):
    resolved, pool = slurm_job(folder, slurm)
    return build_request(resolved, pool, Submission(0, (0, 1, 2, 3), 4), {"MUSTER_JOIN": "bundle"})


def is_chosen(version):
    offered = json.dumps({"paths": {f"/slurm/v0.0.{each}/jobs/": {} for each in range(version - 2, version + 1)}})
    assert choose_version(offered, None) == version


def is_written(version, folder):
    for slurm in ("{command: {type: Local}}", everything(BY_REST)):
        body = submission(request_of(folder, slurm), version)
        jsonschema.validate(body, SUBMISSION)
    assert body["job"].keys() == SUBMISSION["properties"]["job"]["properties"].keys()  # so no field goes unchecked


def is_read(version):
    jsonschema.validate(ANSWER, listing(version))
    listed = Listed([json.dumps(ANSWER).encode()], "jobs")
    running, failed, waiting = map(read_job, listed.records())
    assert (running.array, running.tasks, running.phase, running.restarts) == (19, (0,), Phase.RUNNING, 1)
    assert (running.starts, running.ends, running.nodes) == (1795392262, 1795392300, "n1")
    assert (failed.tasks, failed.phase, failed.exit) == ((1,), Phase.ENDED, Exit(7))
    assert (waiting.tasks, waiting.phase, waiting.starts) == ((2, 3), Phase.WAITING, 0)
    assert set(PHASES) >= STATES[version]


def is_answered():
    made = {"job_id": 19, "step_id": "", "job_submit_user_msg": "", "errors": [], "warnings": []}
    jsonschema.validate(made, SUBMITTED)
    assert read_submitted(made) == 19
    kinds = {2000: Refused, 11: Full, 1007: Denied}
    for code, kind in kinds.items():
        errors = [{"description": "d", "source": "slurm_submit_batch_job()", "error": "e", "error_number": code}]
        jsonschema.validate(errors, ERRORS)
        assert type(error_of("submission", errors)) is kind


def test_v0_0_43_is_written_and_read_as_its_document_says(tmp_path):
    is_chosen(43)
    is_written(43, tmp_path)
    is_read(43)
    is_answered()


def test_v0_0_44_is_written_and_read_as_its_document_says(tmp_path):
    is_chosen(44)
    is_written(44, tmp_path)
    is_read(44)
    is_answered()


@pytest.mark.parametrize("version", VERSIONS_RECORDED)
def test_what_real_ones_answered_is_read(version):
    answers = recorded(version)
    number, [job] = read_submitted(answers["submitted"]), answers["listing"]["jobs"]
    found = read_job(job)
    assert (found.id, found.array, found.tasks, found.phase) == (number, number, (0,), Phase.RUNNING)
    assert (
        Keys("0a1b2c3d", "hpc").read(found.name, "") == Keys("0a1b2c3d", "hpc").read("", found.comment) == Tag(0, 1, 0)
    )
    assert (found.ends - found.starts, found.exit, found.restarts) == (300, Exit(), 0)
    assert found.nodes in {"n1", "n2", "n3", "n4"}


def test_what_was_recorded_of_v0_0_42_has_the_form_that_others_are_checked_with():
    answers, form = recorded(42), record(42)
    [job] = answers["listing"]["jobs"]
    jsonschema.validate({name: job[name] for name in form["properties"]}, form)


def test_v0_0_44_knows_one_state_more():
    assert STATES[44] - STATES[43] == {"EXPEDITING"}
    assert read_job(job(0, "PENDING", "EXPEDITING")).phase is Phase.WAITING


def test_forms_are_known_of_every_version_from_42_on():
    assert tuple(version for version in SPOKEN if version >= 42) == VERSIONS


def test_another_form_would_be_noticed(tmp_path):
    body = submission(request_of(tmp_path, everything(BY_REST)), 38)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body, SUBMISSION)
