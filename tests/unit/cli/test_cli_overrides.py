"""--set path=value."""

import pytest

from muster_cli.errors import BadInput
from muster_cli.overrides import apply_overrides, parse_override

JOB = {"spec": {"rounds": {"total": 60}, "pools": [{"name": "cloud"}, {"name": "hpc"}], "compression": None}}


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("spec.rounds.total=5", ("spec", "rounds", "total"), 5),
        ("spec.local.learningRate=0.5", ("spec", "local", "learningRate"), 0.5),
        ("spec.pools.1.name=other", ("spec", "pools", 1, "name"), "other"),
        (
            "spec.strategy={type: FedProx, fedProx: {mu: 0.1}}",
            ("spec", "strategy"),
            {"type": "FedProx", "fedProx": {"mu": 0.1}},
        ),
        ("metadata.name=a=b", ("metadata", "name"), "a=b"),
        ("spec.rounds.cohort=", ("spec", "rounds", "cohort"), None),
    ],
)
def test_reads_a_path_and_a_yaml_value(text, path, value):
    override = parse_override(text)
    assert (override.path, override.value) == (path, value)


@pytest.mark.parametrize("text", ["spec.rounds.total", "rounds.total=5", "spec=1", "spec..total=1", "=1", "kind=Other"])
def test_says_how_to_write_an_override(text):
    with pytest.raises(BadInput, match=r"--set .*for example --set spec.rounds.total=5"):
        parse_override(text)


def test_says_that_the_value_is_not_yaml():
    with pytest.raises(BadInput, match=r"spec.strategy: the value '\{type' is not YAML"):
        parse_override("spec.strategy={type")


@pytest.mark.parametrize(
    ("text", "where", "expected"),
    [
        ("spec.rounds.total=5", ("spec", "rounds", "total"), 5),
        ("spec.rounds.target.value=0.9", ("spec", "rounds", "target", "value"), 0.9),
        ("spec.compression.preset=balanced", ("spec", "compression", "preset"), "balanced"),
        ("spec.pools.1.name=other", ("spec", "pools", 1, "name"), "other"),
    ],
)
def test_puts_the_value_in(text, where, expected):
    place = apply_overrides(JOB, [parse_override(text)])
    for step in where:
        place = place[step]
    assert place == expected


def test_leaves_the_document_it_was_given_alone():
    apply_overrides(JOB, [parse_override("spec.rounds.total=5")])
    assert JOB["spec"]["rounds"]["total"] == 60


@pytest.mark.parametrize(
    "text", ["spec.pools.2.name=x", "spec.pools.name=x", "spec.rounds.total.more=1", "spec.pools.2=x"]
)
def test_names_the_step_that_leads_nowhere(text):
    with pytest.raises(BadInput, match=r"the job has no .* in spec"):
        apply_overrides(JOB, [parse_override(text)])
