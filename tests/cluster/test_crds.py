"""Promise 1 against a real API server: one schema, two doors. The corpus is that of tests/contract/manifests.

Field by field the doors are compared in test_mutants.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.doors import paths_of_validate, refusals, unnamed
from muster_spec.loading import check
from muster_spec.schemas import crd, schema_of

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "contract" / "manifests"
GOOD = sorted([*CORPUS.glob("good/**/*.yaml"), *ROOT.glob("examples/*/*.yaml")])
BAD = sorted(CORPUS.glob("bad/**/*.yaml"))
CHANGES = sorted(CORPUS.glob("changes/*.new.yaml"))
KINDS = ("FederatedJob", "ClientPool")
UNNAMED = {"", "kind", "apiVersion"}  # kubectl says in other words that it can't read a file or knows no such kind

POOL = """
apiVersion: muster.dev/v1alpha1
kind: ClientPool
metadata: {name: cloud}
spec: {type: Kubernetes, clients: 6}
"""
JOB = """
apiVersion: muster.dev/v1alpha1
kind: FederatedJob
metadata: {name: digits}
spec:
  task: {entrypoint: "muster.tasks.digits:Digits"}
  pools: [{name: cloud}]
  rounds: {total: 60}
"""


def named(path: Path) -> str:
    return str(path.relative_to(CORPUS if CORPUS in path.parents else ROOT))


# --- The schemas as the server takes them -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_server_takes_the_schema_without_reserve(kind: str, crds: Any) -> None:
    name = crd(kind)["metadata"]["name"]
    found = json.loads(crds.tell("get", "crd", name, "-o", "json"))
    conditions = {each["type"]: each["status"] for each in found["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}  # NonStructuralSchema would be a third
    assert found["status"]["storedVersions"] == ["v1alpha1"]
    again = crds.kubectl("apply", "--dry-run=server", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    assert (again.returncode, again.stderr) == (0, "")  # warnings would be on stderr


@pytest.mark.parametrize("name", ["federatedjobs", "fedjobs", "fedjob", "fj", "clientpools", "cpool"])
def test_short_names(name: str, crds: Any, namespace: str) -> None:
    assert crds.tell("get", name, "-n", namespace) == ""


def test_jobs_and_pools_are_among_all(crds: Any, namespace: str) -> None:
    crds.tell("apply", "-n", namespace, "-f", "-", manifest=f"{POOL}---{JOB}")
    everything = crds.tell("get", "all", "-n", namespace, "-o", "name").split()
    assert {"federatedjob.muster.dev/digits", "clientpool.muster.dev/cloud"} <= set(everything)


def test_columns_are_those_of_the_design(crds: Any, namespace: str) -> None:
    crds.tell("apply", "-n", namespace, "-f", "-", manifest=JOB)
    header, row = crds.tell("get", "fedjobs", "-n", namespace).splitlines()
    assert header.split() == ["NAME", "STATE", "ROUND", "TOTAL", "CLIENTS", "ACCURACY", "AGE"]
    assert row.split()[:2] == ["digits", "60"]
    wide = crds.tell("get", "fedjobs", "-n", namespace, "-o", "wide").splitlines()[0]
    extra = ["LAST ROUND", "STRAGGLERS", "BYTES UP", "ENDPOINT", "REASON"]
    assert re.split(r" {2,}", wide.strip()) == [*header.split(), *extra]


def test_explain_reads_like_the_schema(crds: Any) -> None:
    rounds = schema_of("FederatedJob")["properties"]["spec"]["properties"]["rounds"]
    told = " ".join(crds.tell("explain", "fedjob.spec.rounds").split())
    assert rounds["description"] in told
    for name, field in rounds["properties"].items():
        assert re.search(rf"\b{name} <\w+>", told), name
        assert " ".join(field["description"].split()) in told, name


# --- One manifest, two doors ------------------------------------------------------------------------------------------


def test_there_is_a_corpus() -> None:
    assert len(GOOD) > 5
    assert len(BAD) > 20
    assert len(CHANGES) > 5


@pytest.mark.parametrize("door", ["--server-side=false", "--server-side"])
@pytest.mark.parametrize("manifest", [*GOOD, *BAD], ids=named)
def test_both_doors_say_the_same(manifest: Path, door: str, crds: Any, namespace: str) -> None:
    command = ("apply", door, "--validate=strict", "--dry-run=server", "-n", namespace, "-f", str(manifest))
    answer, validated = crds.kubectl(*command), paths_of_validate([manifest])
    assert (answer.returncode != 0) == bool(validated), f"kubectl: {answer.stderr}; validate names {sorted(validated)}"
    refused = [refusal for _, refusal in refusals(answer.stderr)]
    for refusal in refused:
        assert not unnamed(refusal, validated), f"{refusal.text}; validate names only {sorted(validated)}"
    if validated - UNNAMED:
        assert any(refusal.paths for refusal in refused), f"no path was found in {answer.stderr}"


@pytest.mark.parametrize("manifest", CHANGES, ids=named)
def test_both_doors_judge_a_change_the_same(manifest: Path, crds: Any, namespace: str) -> None:
    before = manifest.with_name(manifest.name.replace(".new.", ".old."))
    crds.tell("apply", "-n", namespace, "-f", str(before))
    answer = crds.kubectl("apply", "--dry-run=server", "-n", namespace, "-f", str(manifest))
    validated = paths_of_validate([manifest], against=[before])
    assert (answer.returncode != 0) == bool(validated), f"kubectl: {answer.stderr}; validate names {sorted(validated)}"
    for _, refusal in refusals(answer.stderr):
        assert not unnamed(refusal, validated), f"{refusal.text}; validate names only {sorted(validated)}"


@pytest.mark.parametrize("manifest", GOOD, ids=named)
def test_what_is_stored_is_what_we_default_to(manifest: Path, crds: Any, namespace: str) -> None:
    ours = {(each.kind, each.name): each.value["spec"] for each in check([manifest]).documents}
    crds.tell("apply", "-n", namespace, "-f", str(manifest))
    stored = yaml.safe_load(crds.tell("get", "fedjobs,clientpools", "-n", namespace, "-o", "yaml"))["items"]
    assert {(each["kind"], each["metadata"]["name"]): each["spec"] for each in stored} == ours


def test_a_key_written_twice_is_where_validate_is_stricter(crds: Any, namespace: str) -> None:
    manifest = CORPUS / "ours" / "key-twice.yaml"
    crds.tell("apply", "--dry-run=server", "--validate=strict", "-n", namespace, "-f", str(manifest))
    assert check([manifest]).problems
