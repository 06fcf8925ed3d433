"""What a site is told of a job: as much as its policy needs, and no more than the job keeps to."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from muster_coordinator.config import config_of
from muster_spec import load, resolve
from muster_spec.terms import Terms, terms_of
from muster_spec.types import ResolvedJob

ALONE: dict[str, Any] = {"entrypoint": "a:B", "config": {"depth": 2}}


def job_of(folder: Path, **spec: Any) -> ResolvedJob:
    pools = [{"name": "here", "inline": {"type": "Kubernetes", "clients": 7, "labels": {"a": "b"}}}]
    document = {
        "apiVersion": "muster.dev/v1alpha1",
        "kind": "FederatedJob",
        "metadata": {"name": "one"},
        "spec": {"task": ALONE, "pools": pools} | spec,
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(document))
    return resolve(load([path]))


def test_what_a_site_decides_by_survives_the_way(tmp_path: Path) -> None:
    job = job_of(tmp_path, rounds={"total": 9}, local={"epochs": 3})
    terms = terms_of(job.spec, job.clients_total, "worker@sha256:1")
    again = msgspec.json.decode(msgspec.json.encode(terms), type=Terms)
    assert again == terms
    assert (again.rounds, again.local.epochs, again.task.config) == (9, 3, {"depth": 2})


@pytest.mark.parametrize(
    ("rounds", "least"),
    [({}, 4), ({"cohort": 4}, 2), ({"minUpdates": 3}, 3), ({"cohort": 1}, 1)],
)
def test_no_model_is_made_of_fewer_updates_than_is_said(tmp_path: Path, rounds: dict[str, int], least: int) -> None:
    job = job_of(tmp_path, rounds=rounds)
    assert terms_of(job.spec, job.clients_total, "").least_updates == least
    assert config_of(job, 1).minimum == least


def test_where_it_cant_be_told_it_is_one(tmp_path: Path) -> None:
    job = job_of(tmp_path, rounds={"mode": "Asynchronous"})
    assert terms_of(job.spec, job.clients_total, "").least_updates == 1
    selection = {"type": "Label", "label": {"matchLabels": {"a": "b"}}}
    job = job_of(tmp_path, selection=selection)
    assert terms_of(job.spec, job.clients_total, "").least_updates == 1
    job = job_of(tmp_path, selection=selection, rounds={"minUpdates": 2})
    assert terms_of(job.spec, job.clients_total, "").least_updates == 2
