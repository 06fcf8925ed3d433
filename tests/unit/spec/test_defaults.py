from typing import Any

import pytest

from muster_spec.defaults import member_of, with_defaults, with_union_members

SCHEMA = {
    "properties": {
        "plain": {"type": "integer", "default": 3},
        "inside": {"type": "object", "properties": {"deep": {"type": "string", "default": "x"}}},
        "nested": {
            "type": "object",
            "default": {"one": 1},
            "properties": {"one": {"type": "integer"}, "two": {"type": "integer", "default": 2}},
        },
        "items": {"type": "array", "items": {"properties": {"n": {"default": 1}}}},
        "map": {"type": "object", "additionalProperties": {"properties": {"n": {"default": 1}}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    }
}


@pytest.mark.parametrize(
    ("given", "more"),
    [
        ({}, {}),
        ({"plain": 5}, {"plain": 5}),
        ({"plain": None}, {"plain": 3}),
        ({"plain": 5.0}, {"plain": 5}),
        ({"plain": 5.5}, {"plain": 5.5}),
        ({"inside": {}}, {"inside": {"deep": "x"}}),
        ({"inside": 7}, {"inside": 7}),
        ({"inside": None}, {}),
        ({"nested": {}}, {"nested": {"two": 2}}),
        ({"items": [{}, {"n": 2}]}, {"items": [{"n": 1}, {"n": 2}]}),
        ({"map": {"a": {}}}, {"map": {"a": {"n": 1}}}),
        ({"free": {"a": None, "b": 1.0}}, {"free": {"a": None, "b": 1.0}}),
        ({"unknown": {"a": 1}}, {"unknown": {"a": 1}}),
    ],
)
def test_structural_defaulting(given: dict[str, Any], more: dict[str, Any]) -> None:
    before = {"plain": 3, "nested": {"one": 1, "two": 2}}
    assert with_defaults(given, SCHEMA) == before | more


def test_defaults_are_copies() -> None:
    first, second = with_defaults({}, SCHEMA), with_defaults({}, SCHEMA)
    first["nested"]["one"] = 9
    assert second["nested"]["one"] == 1


UNION = {
    "properties": {
        "type": {"type": "string"},
        "fedProx": {"properties": {"mu": {"default": 0.01}}},
        "sgd": {"properties": {"momentum": {"default": 0}}},
        "krum": {"required": ["byzantine"], "properties": {"byzantine": {}}},
    }
}


@pytest.mark.parametrize(
    ("given", "spelt_out"),
    [
        ({"type": "FedProx"}, {"type": "FedProx", "fedProx": {"mu": 0.01}}),
        ({"type": "FedProx", "fedProx": {"mu": 1}}, {"type": "FedProx", "fedProx": {"mu": 1}}),
        ({"type": "SGD"}, {"type": "SGD", "sgd": {"momentum": 0}}),
        ({"type": "FedAvg"}, {"type": "FedAvg"}),
        ({"type": "Krum"}, {"type": "Krum"}),
        ({}, {}),
    ],
)
def test_the_chosen_member_gets_its_defaults(given: dict[str, Any], spelt_out: dict[str, Any]) -> None:
    assert with_union_members(given, UNION) == spelt_out
    assert with_union_members([given], {"items": UNION}) == [spelt_out]


def test_a_member_is_named_after_its_type() -> None:
    assert member_of("FedProx", UNION["properties"]) == "fedProx"
    assert member_of("FedAvg", UNION["properties"]) is None
    assert member_of(3, UNION["properties"]) is None
