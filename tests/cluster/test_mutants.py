"""Promise 1, field by field: both doors say the same of every field of both schemas, broken and changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster.doors import paths_of_validate, refusals, unnamed
from cluster.mutants import Mutant, mutants, plain
from muster_spec.documents import Document
from muster_spec.schemas import schema_of

KINDS = ("ClientPool", "FederatedJob")


@pytest.mark.parametrize("kind", KINDS)
def test_both_doors_agree_on_every_field(kind: str, crds: Any) -> None:
    made = list(mutants(kind, schema_of(kind)))
    answer = crds.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", manifest=as_text(made))
    validated = {mutant.name: paths_of_validate([Document(mutant.document)]) for mutant in made}
    assert_agreement(made, answer.stderr, validated)


@pytest.mark.parametrize("kind", KINDS)
def test_both_doors_agree_on_what_may_change(kind: str, crds: Any, namespace: str) -> None:
    made = list(mutants(kind, schema_of(kind)))
    before = [Mutant(plain(kind, mutant.name), "unchanged") for mutant in made]
    crds.tell("apply", "-n", namespace, "-f", "-", manifest=as_text(before))
    answer = crds.kubectl("apply", "--dry-run=server", "-n", namespace, "-f", "-", manifest=as_text(made))
    validated = {
        mutant.name: paths_of_validate([Document(mutant.document)], [Document(old.document)])
        for mutant, old in zip(made, before, strict=True)
    }
    assert_agreement(made, answer.stderr, validated)


def as_text(made: list[Mutant]) -> str:
    return "---\n".join(json.dumps(mutant.document) + "\n" for mutant in made)


def assert_agreement(made: list[Mutant], stderr: str, validated: dict[str, frozenset[str]]) -> None:
    refused = dict(refusals(stderr))
    assert None not in refused, refused[None].text
    assert len(refused) > len(made) / 2, "most mutants are wrong"
    disagreements = []
    for mutant in made:
        server, named = refused.get(mutant.name), validated[mutant.name]
        if bool(server) != bool(named) or (server and unnamed(server, named)):
            disagreements.append(f"{mutant.what}: the server: {server and server.text}; validate names {sorted(named)}")
    assert not disagreements, "\n".join(disagreements)
