"""What is found by what, and when enough is known to begin."""

from __future__ import annotations

from muster_operator.index import Census, Index

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


def test_it_begins_when_all_pages_of_all_lists_have_been_read() -> None:
    census = Census({"/jobs": ("Job", None), "/pods": ("Pod", None)})
    census.listed("/jobs", ["1"], is_first=True, is_last=False)
    census.listed("/pods", [], is_first=True, is_last=True)
    assert not census.is_over.is_set()
    census.listed("/jobs", ["2", "3"], is_first=False, is_last=True)
    assert census.is_over.is_set()


def test_a_later_list_tells_who_has_gone_meanwhile_of_its_kind_and_where_it_looks() -> None:
    census = Census({"/a/jobs": ("Job", "a"), "/b/jobs": ("Job", "b"), "/pods": ("Pod", None)})
    for kind, uid, namespace in (("Job", "1", "a"), ("Job", "2", "a"), ("Job", "3", "b"), ("Pod", "4", "a")):
        census.heard(kind, uid, namespace)
    assert census.listed("/a/jobs", ["1"], is_first=True, is_last=False) == []
    assert census.listed("/a/jobs", ["5"], is_first=False, is_last=True) == ["2"]
    census.heard("Job", "2", "", is_gone=True)
    assert census.listed("/a/jobs", ["1"], is_first=True, is_last=True) == []
    assert census.listed("/pods", [], is_first=True, is_last=True) == ["4"]


def test_a_list_that_broke_in_the_middle_is_begun_anew() -> None:
    census = Census({"/jobs": ("Job", None)})
    census.heard("Job", "1", "a")
    census.listed("/jobs", ["1"], is_first=True, is_last=False)
    assert census.listed("/jobs", ["2"], is_first=True, is_last=True) == ["1"]


def test_what_is_kept_of_an_object_is_found_by_its_uid() -> None:
    index = Index[str]()
    index.put("one", {A: "x"})
    assert (index.value("one"), index.value("two")) == ("x", None)
