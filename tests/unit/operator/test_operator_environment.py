"""What the processes of a job get from the operator's own environment."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from muster_operator.actions import Create
from muster_operator.build.environment import handed_on, with_environment
from muster_operator.objects import Object
from muster_operator.plan import plan
from muster_operator.settings import read_settings
from operating import INSTALL, Cluster, job_object, pool_object

GIVEN = (("MUSTER_LOG_FORMAT", "json"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://traces:4318"))
PROXY = (("HTTPS_PROXY", "http://p:3128"), ("NO_PROXY", ".svc"))


def test_how_to_log_where_traces_go_and_the_proxy_are_handed_on_and_nothing_else() -> None:
    environment = dict(GIVEN) | {"OTEL_SERVICE_NAME": "operator", "OTEL_TRACES_SAMPLER": "", "TMPDIR": "/x"}
    assert handed_on(environment) == GIVEN
    assert handed_on(dict(PROXY)) == PROXY
    images = {"MUSTER_COORDINATOR_IMAGE": "c", "MUSTER_WORKER_IMAGE": "w"}
    assert read_settings(environment | images).install.environment == GIVEN


def job(*own: Object) -> Object:
    pod = {"containers": [{"name": "worker", "env": list(own)}], "volumes": []}
    return {"kind": "Job", "spec": {"completions": 1, "template": {"metadata": {"labels": {}}, "spec": pod}}}


def test_a_containers_own_variables_win() -> None:
    own = {"name": "MUSTER_LOG_FORMAT", "value": "text"}
    before = job(own)
    kept = msgspec.json.encode(before)
    after = with_environment(before, GIVEN)
    assert after["spec"]["template"]["spec"]["containers"][0]["env"] == [
        own,
        {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://traces:4318"},
    ]
    assert after["spec"]["template"]["spec"]["volumes"] == []
    assert msgspec.json.encode(before) == kept


@pytest.mark.parametrize("child", [{"kind": "Service", "spec": {}}, job()])
def test_without_any_nothing_changes(child: Object) -> None:
    assert with_environment(child, ()) is child


def test_other_children_have_no_environment() -> None:
    service = {"kind": "Service", "spec": {}}
    assert with_environment(service, GIVEN) is service


def test_coordinator_and_workers_of_a_job_get_it() -> None:
    cluster = Cluster(job_object(), pool_object())
    cluster.step()  # the Secret that Jobs wait for
    actions = plan(cluster.see(), replace(INSTALL, environment=GIVEN), cluster.now).actions
    jobs = [action.manifest for action in actions if isinstance(action, Create) and action.manifest["kind"] == "Job"]
    assert len(jobs) == 2
    for each in jobs:
        [container] = each["spec"]["template"]["spec"]["containers"]
        assert {"name": "MUSTER_LOG_FORMAT", "value": "json"} in container["env"]


def test_the_proxy_is_the_coordinators_as_pools_have_their_own() -> None:
    cluster = Cluster(job_object(), pool_object())
    cluster.step()
    actions = plan(cluster.see(), replace(INSTALL, environment=PROXY), cluster.now).actions
    jobs = [action.manifest for action in actions if isinstance(action, Create) and action.manifest["kind"] == "Job"]
    [has, lacks] = [each["spec"]["template"]["spec"]["containers"][0] for each in jobs]
    assert (has["name"], lacks["name"]) == ("coordinator", "worker")
    assert {"name": "HTTPS_PROXY", "value": "http://p:3128"} in has["env"]
    assert [one for one in lacks.get("env", []) if "PROXY" in one["name"]] == []
