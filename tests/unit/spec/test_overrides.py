from typing import Any

import pytest

from muster_spec.documents import Document, parse_documents
from muster_spec.overrides import apply_overrides

TEXT = """
kind: ClientPool
metadata: {name: hpc}
spec: {clients: 4}
---
kind: FederatedJob
metadata: {name: digits}
spec: {pools: [{name: hpc}], rounds: {total: 5}}
---
kind: FederatedJob
metadata: {name: heart}
spec: {}
"""


def documents() -> list[Document]:
    return parse_documents(TEXT)[0]


def changed(*overrides: str, job: str | None = "digits") -> list[Any]:
    found, problems = apply_overrides(documents(), overrides, job)
    assert not problems
    return [document.value["spec"] for document in found]


@pytest.mark.parametrize(
    ("override", "spec"),
    [
        ("spec.rounds.total=7", {"pools": [{"name": "hpc"}], "rounds": {"total": 7}}),
        ("rounds.total=7", {"pools": [{"name": "hpc"}], "rounds": {"total": 7}}),
        ("rounds={cohort: 2}", {"pools": [{"name": "hpc"}], "rounds": {"cohort": 2}}),
        ("spec.pools[0].name=x", {"pools": [{"name": "x"}], "rounds": {"total": 5}}),
        ("spec.pools.0.name=x", {"pools": [{"name": "x"}], "rounds": {"total": 5}}),
        (
            "local.learningRate=1e-3",
            {"pools": [{"name": "hpc"}], "rounds": {"total": 5}, "local": {"learningRate": 0.001}},
        ),
        ('rounds.total="7"', {"pools": [{"name": "hpc"}], "rounds": {"total": "7"}}),
        ("rounds.total=", {"pools": [{"name": "hpc"}], "rounds": {"total": None}}),
        ("FederatedJob/digits.seed=1", {"pools": [{"name": "hpc"}], "rounds": {"total": 5}, "seed": 1}),
    ],
)
def test_a_value_is_put_in(override: str, spec: dict[str, Any]) -> None:
    assert changed(override)[1] == spec


def test_other_documents_can_be_meant() -> None:
    assert changed("ClientPool/hpc.spec.clients=3")[0] == {"clients": 3}


def test_without_a_name_every_job_is_meant() -> None:
    assert [spec.get("seed") for spec in changed("seed=3", job=None)] == [None, 3, 3]


def test_documents_stay_as_they_were() -> None:
    before = documents()
    apply_overrides(before, ["seed=3"])
    assert before == documents()


def test_what_is_put_in_is_nobodys_default() -> None:
    found, _ = apply_overrides(documents(), ["local={epochs: 2}"], "digits")
    assert {("spec", "local"), ("spec", "local", "epochs")} <= found[1].lines.keys()
    assert found[1].line_of(("spec", "local", "epochs")) == 0


@pytest.mark.parametrize(
    ("override", "path", "words"),
    [
        ("rounds.total", "rounds.total", "not an override"),
        ("=5", "=5", "not an override"),
        ("spec..a=5", "spec..a=5", "not an override"),
        ("seed=[", "seed", "not YAML"),
        ("pools[3].name=x", "pools[3].name", "no place for spec.pools[3].name"),
        ("rounds.total.deep=1", "rounds.total.deep", "no place for spec.rounds.total.deep"),
        ("ClientPool/cloud.spec.clients=3", "ClientPool/cloud.spec.clients", "no such document"),
    ],
)
def test_what_can_not_be_put_in_is_named(override: str, path: str, words: str) -> None:
    _, (problem,) = apply_overrides(documents(), [override], "digits")
    assert problem.file == "--set"
    assert problem.path == path
    assert words in problem.message
