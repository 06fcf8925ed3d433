"""What the fuzzers start from, and what they once found: every target takes all of it."""

import pytest

from fuzz.targets import FOUND, TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_findings_do_no_harm(name):
    target = TARGETS[name]
    inputs = [*target.seeds(), *(path.read_bytes() for path in (FOUND / name).glob("*"))]
    assert len(inputs) > 1
    for data in inputs:
        assert len(data) <= target.longest
        target.run(data)


def test_findings_belong_to_targets():
    assert {folder.name for folder in FOUND.iterdir()} <= TARGETS.keys()
