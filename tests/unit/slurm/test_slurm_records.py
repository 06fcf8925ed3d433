"""Listings of any length, in pieces of any size."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_slurm.errors import Unreachable
from muster_slurm.records import Listed

DOCUMENT = {"meta": {"x": ["]", "}"]}, "jobs": [{"a": "},{"}, {"b": [{"jobs": []}]}, {"c": 'ü"'}], "errors": [{"n": 1}]}


def pieces(text, sizes):
    data, place = text.encode(), 0
    for size in sizes:
        yield data[place : place + size]
        place += size
        if place >= len(data):
            return
    yield data[place:]


@given(st.lists(st.integers(1, 40)), st.sampled_from([None, 2]))
def test_records_come_whole_wherever_the_chunks_end(sizes, indent):
    listed = Listed(pieces(json.dumps(DOCUMENT, ensure_ascii=False, indent=indent), sizes), "jobs")
    assert list(listed.records()) == DOCUMENT["jobs"]
    assert json.loads(listed.around)["errors"] == [{"n": 1}]


def test_an_empty_listing():
    listed = Listed([b'{"jobs": [], "errors": [{"error": "no"}]}'], "jobs")
    assert list(listed.records()) == []
    assert "no" in listed.around


def test_an_answer_without_any():
    listed = Listed([b"Authentication ", b"failure"], "jobs")
    assert list(listed.records()) == []
    assert listed.around == "Authentication failure"


@pytest.mark.parametrize("torn", ['{"jobs": [{"a": 1}, {"b"', '{"jobs": [{"a": 1}', '{"jobs": [17, 18]}', '{"jobs": ['])
def test_what_is_torn_is_no_listing(torn):
    with pytest.raises(Unreachable):
        list(Listed([torn.encode()], "jobs").records())
