"""What is found by what, and when enough is known to begin."""

from __future__ import annotations

from muster_operator.index import Beginning, Index

A, B = ("lab", "a"), ("lab", "b")


def test_an_object_is_found_where_it_is_now() -> None:
    index = Index[str]()
    index.put("one", {A: "old"})
    index.put("one", {B: "new"})
    assert (index.get(A), index.get(B), list(index)) == ([], ["new"], [B])


def test_an_object_that_is_gone_leaves_nothing() -> None:
    index = Index[str]()
    index.put("one", {A: "x", B: "y"})
    index.put("one", {})
    index.put("never-there", {})
    assert (index.get(A), list(index)) == ([], [])


def test_the_end_of_an_object_is_not_that_of_its_namesake() -> None:
    index = Index[str]()
    index.put("new", {A: "new"})
    index.put("old", {A: "old"})
    index.put("old", {})
    assert index.get(A) == ["new"]


def test_it_begins_when_all_pages_of_all_lists_have_been_told() -> None:
    beginning = Beginning(["/jobs", "/pods"])
    beginning.listed("/jobs", ["1"], is_last=False)
    beginning.listed("/pods", [], is_last=True)
    beginning.told("2")  # a worker may be faster than its list
    beginning.told("1")
    assert not beginning.is_over.is_set()
    beginning.listed("/jobs", ["2", "3"], is_last=True)
    assert not beginning.is_over.is_set()
    beginning.told("3")
    assert beginning.is_over.is_set()


def test_it_begins_where_there_is_nothing() -> None:
    beginning = Beginning(["/jobs"])
    beginning.listed("/jobs", [], is_last=True)
    assert beginning.is_over.is_set()
    beginning.listed("/jobs", ["1"], is_last=True)  # a later list changes nothing
    assert beginning.is_over.is_set()
