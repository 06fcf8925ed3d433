"""What a real slurmrestd does that no document says, and that the transport gets right."""

import http.client
import json
import os
import signal
from urllib.parse import urlsplit

import pytest

from muster_slurm.commands import Commands
from muster_slurm.errors import Denied, Full, Refused, SlurmError, Unreachable
from muster_slurm.request import Options, Request
from muster_slurm.rest import Rest, Site
from muster_slurm.states import Cause, Phase
from slurm_forms import SUBMISSION, SUBMITTED, record
from slurming import bridging, by_rest, found_by_commands, let_end, manifest, said
from slurms.stub import VERSIONS as VERSIONS_RECORDED
from slurms.stub import recorded

FREE = frozenset({"job_resources"})  # which cores and nodes, that is
VERSIONS = ("v0.0.40", "v0.0.41", "v0.0.42")
of_the_newer = pytest.mark.skipif("MUSTER_SLURM_RELEASE" not in os.environ, reason="no version of theirs is offered")
of_the_older = pytest.mark.skipif("MUSTER_SLURM_RELEASE" in os.environ, reason="what v0.0.38 does, and no other")


def request_of(script="sleep 60", array=(0,), **options):
    given = {"nodes": 1, "tasks": 1, "time_limit_minutes": 5, "signal_seconds": 60, "requeue": True}
    given |= {"work_dir": "/", "output": "/dev/null"} | options
    return Request(
        "odd", "muster/odd/1", array, Options(**given), f"#!/bin/bash\n{script}\n", {"PATH": "/usr/bin:/bin"}
    )


@pytest.fixture
def rest(slurm):
    token = slurm.token()
    return Rest(Site(slurm.url, "root"), lambda: token)


def jobs_of(rest, number):
    return [job for job in rest.list_jobs("muster/odd").jobs if job.array == number]


def ask(slurm, method, path, body=None, token=None):
    connection = http.client.HTTPConnection(urlsplit(slurm.url).netloc, timeout=30)
    headers = {"X-SLURM-USER-NAME": "root", "Content-Type": "application/json"}
    headers |= {"X-SLURM-USER-TOKEN": token} if token else {}
    connection.request(method, path, json.dumps(body) if body else None, headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


@of_the_older
def test_a_missing_token_is_401_in_plain_text_and_a_bad_one_500(slurm):
    status, text = ask(slurm, "GET", "/slurm/v0.0.38/jobs")
    assert (status, text) == (401, "Authentication failure")
    assert ask(slurm, "GET", "/slurm/v0.0.38/jobs", token="bad")[0] == 500  # noqa: S106
    with pytest.raises((Denied, Unreachable), match="token"):
        Rest(Site(slurm.url, "root"), lambda: "bad").list_jobs("x")


@of_the_older
def test_an_environment_must_not_be_empty_and_an_unknown_key_is_refused(slurm):
    job = {"current_working_directory": "/", "environment": {}}
    body = {"script": "#!/bin/sh\n", "job": job}
    status, text = ask(slurm, "POST", "/slurm/v0.0.38/job/submit", body, slurm.token())
    assert (status, "environment must be set" in text) == (400, True)
    body["job"] = {"current_working_directory": "/", "environment": {"A": "b"}, "arrayy": "0"}
    status, text = ask(slurm, "POST", "/slurm/v0.0.38/job/submit", body, slurm.token())
    assert (status, "arrayy" in text) == (400, True)


@of_the_older
def test_the_batch_shell_cannot_be_signalled_which_is_why_workers_are_steps(slurm):
    job = {"current_working_directory": "/", "environment": {"A": "b"}, "signal": "B:TERM@60"}
    status, text = ask(slurm, "POST", "/slurm/v0.0.38/job/submit", {"script": "#!/bin/sh\n", "job": job}, slurm.token())
    assert (status, "Invalid SIGNAL" in text) == (400, True)


@of_the_older
def test_an_impossible_size_is_answered_with_an_error_and_a_job_that_waits_for_ever(rest):
    with pytest.raises(Refused, match="configuration not available") as refusal:
        rest.submit(request_of(nodes=90, tasks=90))
    number = refusal.value.job
    [job] = jobs_of(rest, number)
    assert (job.phase, job.never_starts) == (Phase.WAITING, True)
    rest.cancel(number)


def test_an_impossible_size_is_refused(rest):
    with pytest.raises(Refused, match="not available") as refusal:
        rest.submit(request_of(nodes=90, tasks=90))
    if refusal.value.job:  # 22.05 makes a job all the same
        rest.cancel(refusal.value.job)


@pytest.mark.parametrize("transport", ["rest", "commands"])
def test_no_room_for_more_jobs_is_no_refusal(small_slurm, transport):
    """MaxJobCount. sbatch would try again for two minutes, and the bridge with it do nothing else."""
    token = small_slurm.token()
    way = Rest(Site(small_slurm.url, "root"), lambda: token) if transport == "rest" else Commands(("sh",))
    with found_by_commands(small_slurm):
        with pytest.raises(Full, match="temporarily una"):
            way.submit(request_of(array=(0, 1, 2, 3, 4)))
        assert way.submit(request_of(array=(0, 1)))


@of_the_older
def test_a_job_that_cannot_start_now_is_answered_with_an_error_and_waits(slurm, rest):
    slurm.tell("scontrol", "update", "NodeName=n[1-4]", "State=DRAIN", "Reason=maintenance")
    number = rest.submit(request_of())
    [job] = jobs_of(rest, number)
    assert (job.phase, job.never_starts) == (Phase.WAITING, False)
    rest.cancel(number)


def test_exit_codes_are_wait_statuses_and_arrays_several_records(slurm, rest):
    number = rest.submit(request_of("exit $((7 + SLURM_ARRAY_TASK_ID))", array=(0, 1, 4)))
    slurm.until(lambda: all(job.phase is Phase.ENDED for job in jobs_of(rest, number)))
    jobs = sorted(jobs_of(rest, number), key=lambda job: job.tasks)
    assert [(job.tasks, job.exit.code, job.cause) for job in jobs] == [
        ((0,), 7, Cause.FAILED),
        ((1,), 8, Cause.FAILED),
        ((4,), 11, Cause.FAILED),
    ]
    assert {(job.name, job.comment) for job in jobs} == {("odd", "muster/odd/1")}
    rest.cancel(number)  # of what has ended: nothing happens


def test_waiting_tasks_share_a_record(slurm, rest):
    number = rest.submit(request_of(array=tuple(range(12))))
    slurm.until(lambda: sum(job.phase is Phase.RUNNING for job in jobs_of(rest, number)) == 8)
    [waiting] = [job for job in jobs_of(rest, number) if job.phase is Phase.WAITING]
    assert (waiting.tasks, waiting.array) == ((8, 9, 10, 11), number)
    rest.cancel(number)
    slurm.until(lambda: all(job.cause is Cause.CANCELLED for job in jobs_of(rest, number)))


def test_a_requeued_job_keeps_its_id_and_counts(slurm, rest):
    number = rest.submit(request_of())
    slurm.until(lambda: jobs_of(rest, number)[0].phase is Phase.RUNNING)
    slurm.tell("scontrol", "requeue", f"{number}")
    slurm.until(lambda: jobs_of(rest, number)[0].restarts == 1)
    assert jobs_of(rest, number)[0].array == number
    rest.cancel(number)
    slurm.until(lambda: jobs_of(rest, number)[0].phase is Phase.ENDED)


def test_a_job_that_nobody_knows_is_as_good_as_cancelled(rest):
    rest.cancel(999_999)


def test_a_bad_token_is_told_as_one(slurm):
    with pytest.raises((Denied, Unreachable), match="token"):
        Rest(Site(slurm.url, "root"), lambda: "bad").list_jobs("x")


@of_the_newer
@pytest.mark.parametrize("version", VERSIONS)
def test_a_bad_token_is_511_and_told_as_one(slurm, version):
    status, text = ask(slurm, "GET", f"/slurm/{version}/jobs", token="bad")  # noqa: S106
    assert (status, [error["error_number"] for error in json.loads(text)["errors"]]) == (511, [1007])
    with pytest.raises(Denied, match="token"):
        Rest(Site(slurm.url, "root", None, version), lambda: "bad").list_jobs("x")


@of_the_newer
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("end", ["done", "cancelled"])
def test_each_version_runs_workers_to_their_end_and_cancels_them(slurm, tmp_path, version, end):
    how = by_rest(slurm, tmp_path) + f"\n                apiVersion: {version}"
    with bridging(slurm, tmp_path, manifest(tmp_path, how)) as bridge:
        bridge.until("queue", "2 running")
        slurm.until(lambda: len(said(tmp_path, "start")) == 2)
        if end == "done":
            let_end(tmp_path)
            slurm.until(lambda: not slurm.queue())
            bridge.tell(over=True)
        assert bridge.close()[0] == 0
    assert len(bridge.submissions()) == 1
    assert len(said(tmp_path, "term")) == (2 if end == "cancelled" else 0)
    assert slurm.queue() == ""


@pytest.mark.parametrize(
    "version",
    [pytest.param(each, marks=of_the_older if each == 38 else of_the_newer) for each in VERSIONS_RECORDED],
)
def test_what_the_stub_answers_is_what_a_real_one_would(slurm, version):
    """Recorded anew with benchmarks/slurms/record.py."""
    token = slurm.token()
    rest = Rest(Site(slurm.url, "root", None, f"v0.0.{version}"), lambda: token)
    number = rest.submit(request_of())
    slurm.until(lambda: slurm.jobs("running"))
    listing = json.loads(ask(slurm, "GET", f"/slurm/v0.0.{version}/jobs", token=token)[1])
    job = next(job for job in listing["jobs"] if job["name"] == "odd" and "RUNNING" in job["job_state"])
    answers = recorded(version)["listing"]
    assert form_of(answers | {"jobs": []}) == form_of(listing | {"jobs": []})
    assert form_of(answers["jobs"][0]) == form_of(job)
    rest.cancel(number)
    slurm.until(lambda: not slurm.queue())


def form_of(value):
    """The names of fields and the kinds of their values; of what isn't always set, None."""
    if isinstance(value, dict):
        return {name: form_of(each) for name, each in value.items() if name not in FREE}
    return type(value) if isinstance(value, str | bool) else None


@of_the_newer
def test_the_forms_that_contracts_are_checked_with_are_those_of_a_real_document(slurm):
    status, text = ask(slurm, "GET", "/openapi/v3", token=slurm.token())
    assert status == 200
    schemas = {name.removeprefix("v0.0.42_"): each for name, each in json.loads(text)["components"]["schemas"].items()}
    for form, name in (
        (SUBMISSION, "job_submit_req"),
        (SUBMITTED, "openapi_job_submit_response"),
        (record(42), "job_info"),
    ):
        agree(form, schemas[name], schemas, name)


def agree(form, real, schemas, place):
    """Whether a form says of each of its fields what the document says."""
    if "$ref" in real:
        real = schemas[real["$ref"].rpartition("/")[2].removeprefix("v0.0.42_")]
    for name, field in form.get("properties", {}).items():
        assert name in real["properties"], f"{place}.{name}"
        agree(field, real["properties"][name], schemas, f"{place}.{name}")
    if "items" in form:
        agree(form["items"], real["items"], schemas, f"{place}[]")
    if "enum" in form:
        assert sorted(form["enum"]) == sorted(real["enum"]), place
    elif "type" in form:
        assert form["type"] == real["type"], place


@of_the_older
def test_a_version_that_is_not_offered_is_said_so(slurm):
    token = slurm.token()
    with pytest.raises(Refused, match=r"v0\.0\.38"):
        Rest(Site(slurm.url, "root", None, "v0.0.40"), lambda: token).list_jobs("x")


def test_with_slurmctld_away_requests_hang_and_are_given_up(slurm):
    token = slurm.token()
    slow = Rest(Site(slurm.url, "root"), lambda: token, timeout_s=2)
    slow.list_jobs("x")
    slurm.kill("slurmctld", signal.SIGTERM)
    with pytest.raises(SlurmError):
        slow.list_jobs("x")
    slurm.repair()
