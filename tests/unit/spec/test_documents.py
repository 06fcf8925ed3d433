from pathlib import Path
from typing import Any

import pytest

from muster_spec.documents import parse_documents, read_documents
from muster_spec.problems import Category


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("1_000", 1000),
        ("0x10", 16),
        ("0o17", 15),
        ("010", 8),
        ("0", 0),
        ("-0", 0),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("yes", True),
        ("off", False),
        ("~", None),
        ('"1"', "1"),
        ("v1", "v1"),
    ],
)
def test_single_values_are_read_as_kubectl_reads_them(text: str, value: Any) -> None:
    documents, problems = parse_documents(f"a: {text}")
    assert not problems
    assert documents[0].value == {"a": value}
    assert type(documents[0].value["a"]) is type(value)


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ("a: 1\nb: 2\na: 3", "'a' is there twice", 3),
        ("a: .nan", "not a finite number", 1),
        ("a: 1\nb: -.inf", "not a finite number", 2),
        ("a: 1e999", "not a finite number", 1),
        ("a: [1", "expected ',' or ']'", 1),
        ("a: &x [*x]", "nested too deeply", 1),
        ("[" * 100 + "]" * 100, "nested too deeply", 1),
        ("[" * 5000 + "]" * 5000, "nested too deeply", 0),  # the parser itself gives up, and knows no line
        ("a: !!python/object:os.system {}", "could not determine a constructor", 1),
        ("a: 1\nb: {null: 1}", "a key has to be a text", 2),
        ("a: 0b_", "0b_ is not a number", 1),
        ("a: 1\nb: \x00", "special characters are not allowed", 2),
        ("{a: b}: c", "unhashable|a key has to be a text", 1),
    ],
)
def test_what_can_not_be_a_manifest_is_refused_with_its_line(text: str, words: str, line: int) -> None:
    _, problems = parse_documents(text, "job.yaml")
    assert [problem.category for problem in problems] == [Category.SYNTAX]
    assert any(word in problems[0].message for word in words.split("|"))
    assert (problems[0].file, problems[0].line) == ("job.yaml", line)


def test_keys_are_texts_as_in_json() -> None:
    documents, problems = parse_documents("{5: a, 0x10: b, yes: c, -1.5: d, e: {6: f}}")
    assert not problems
    assert documents[0].value == {"5": "a", "16": "b", "true": "c", "-1.5": "d", "e": {"6": "f"}}


def test_documents_before_a_mistake_are_kept() -> None:
    documents, problems = parse_documents("a: 1\n---\n[")
    assert [document.value for document in documents] == [{"a": 1}]
    assert problems[0].document == 2


def test_empty_documents_are_counted_and_skipped() -> None:
    documents, problems = parse_documents("---\n---\na: 1\n---\n# nothing\n")
    assert not problems
    assert [(document.index, document.value) for document in documents] == [(2, {"a": 1})]


def test_fields_know_their_lines() -> None:
    (document,), _ = parse_documents("a:\n  b:\n  - c: 1\n  - d: 2\n")
    assert document.line_of(("a", "b", 1, "d")) == 4
    assert document.line_of(("a", "b", 1, "missing")) == 4
    assert document.line_of(("a", "z")) == 1


def test_unreadable_files_are_problems(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    documents, problems = read_documents([tmp_path / "none.yaml", tmp_path, binary, huge])
    assert not documents
    assert [problem.category for problem in problems] == [Category.UNREADABLE] * 4
    messages = [problem.message for problem in problems]
    assert "No such file" in messages[0]
    assert "directory" in messages[1]
    assert "UTF-8" in messages[2]
    assert "4 MiB" in messages[3]
