"""Where log lines about a job's progress belong."""

import pytest

from muster_coordinator.instructions import Tell
from muster_coordinator.tells import place_of


@pytest.mark.parametrize(
    ("details", "place"),
    [
        ({"round": 3, "client": "lab/a/7", "bytes": 5}, {"round": 3, "client": "lab/a/7", "pool": "lab/a"}),
        ({"round": 0, "total": 9}, {"round": 0}),
        ({"clients": ["p/1"]}, {}),
    ],
)
def test_a_line_is_placed_by_what_its_details_say(details, place):
    assert place_of(Tell("received", "", details)) == place
