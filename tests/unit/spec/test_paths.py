import pytest

from muster_spec.paths import FieldPath, dig, format_path, nearest, parse_path


@pytest.mark.parametrize(
    ("path", "text"),
    [((), ""), (("spec",), "spec"), (("spec", "pools", 0, "name"), "spec.pools[0].name"), (("a", 1, 2), "a[1][2]")],
)
def test_paths_read_as_the_api_server_prints_them(path: FieldPath, text: str) -> None:
    assert format_path(path) == text
    assert parse_path(text) == (path or None)


@pytest.mark.parametrize("text", ["", "a..b", "a[", "a[x]", "a]b", "a[1", "a."])
def test_what_is_no_path(text: str) -> None:
    assert parse_path(text) is None


def test_a_leading_dot_is_that_of_a_rules_field() -> None:
    assert parse_path(".rounds.total") == ("rounds", "total")


def test_dig() -> None:
    value = {"a": [{"b": 1}]}
    assert dig(value, "a", 0, "b") == 1
    assert dig(value, "a", 1, "b") is None
    assert dig(value, "a", "b") is None
    assert dig(value, "x", "y") is None


@pytest.mark.parametrize(
    ("word", "meant"), [("deadlineseconds", "deadlineSeconds"), ("totl", "total"), ("zebra", None)]
)
def test_nearest(word: str, meant: str | None) -> None:
    assert nearest(word, ["total", "deadlineSeconds"]) == meant
