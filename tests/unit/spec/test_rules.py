from typing import Any

import pytest

from muster_spec.problems import Category
from muster_spec.rules import rule_problems, typed_for_cel


def schema(rule: str, **properties: Any) -> dict[str, Any]:
    numbers = {name: {"type": kind} for name, kind in properties.items()}
    return {
        "properties": numbers,
        "x-kubernetes-validations": [{"rule": rule, "message": "wrong: do this", "fieldPath": ".a"}],
    }


@pytest.mark.parametrize(
    ("rule", "value", "holds"),
    [
        ("!has(self.a) || self.a > 1", {}, True),
        ("!has(self.a) || self.a > 1", {"a": 1}, False),
        ("self.a == 0.0", {"a": 0}, True),
        ("self.a / 2.0 == 0.5", {"a": 1}, True),
        ("(self.b + 1) / 2 == 2", {"b": 4}, True),
        ("self.l.all(x, x in ['p', 'q'])", {"l": ["p", "z"]}, False),
        ("self.l.exists(x, x.startsWith('z'))", {"l": ["p", "z"]}, True),
        ("size(self.l) == 2 ? has(self.a) : true", {"l": [1, 2]}, False),
        ("duration('90s') <= duration(string(self.b) + 's')", {"b": 90}, True),
        ("duration('1m') > duration('30s')", {}, True),
    ],
)
def test_rules_are_evaluated_as_on_admission(rule: str, value: dict[str, Any], holds: bool) -> None:
    found = list(rule_problems(value, schema(rule, a="number", b="integer", l="array")))
    assert (not found) == holds
    for path, problem in found:
        assert (path, problem.message, problem.remedy) == (("a",), "wrong", "do this")
        assert problem.category is Category.RULE


def test_whole_numbers_in_number_fields_are_doubles() -> None:
    typed = typed_for_cel({"a": 1, "b": 1, "flag": True}, schema("true", a="number", b="integer", flag="boolean"))
    assert [type(typed[name]) for name in ("a", "b", "flag")] == [float, int, bool]


def test_transition_rules_need_an_old_value() -> None:
    rule = schema("self.a >= oldSelf.a", a="integer")
    assert not list(rule_problems({"a": 1}, rule))
    assert not list(rule_problems({"a": 3}, rule, old={"a": 2}))
    ((_, problem),) = rule_problems({"a": 1}, rule, old={"a": 2})
    assert problem.category is Category.TRANSITION


def test_entries_of_a_keyed_list_meet_their_old_selves() -> None:
    entries = {
        "type": "array",
        "x-kubernetes-list-map-keys": ["name"],
        "items": schema("self.a == oldSelf.a", a="integer"),
    }
    whole = {"properties": {"pools": entries}}
    old = {"pools": [{"name": "x", "a": 1}, {"name": "y", "a": 2}]}
    new = {"pools": [{"name": "new", "a": 5}, {"name": "y", "a": 3}, {"name": "x", "a": 1}]}
    assert [path for path, _ in rule_problems(new, whole, old=old)] == [("pools", 1, "a")]


def test_a_rule_over_a_faulty_field_is_left_out() -> None:
    rule = schema("self.a > self.b", a="integer", b="integer")
    value = {"a": "text", "b": 1}
    assert [path for path, _ in rule_problems(value, rule)] == [()]
    assert not list(rule_problems(value, rule, blocked=frozenset({("a",)})))
    assert list(rule_problems({"a": 0, "b": 1}, rule, blocked=frozenset({("c",)})))
