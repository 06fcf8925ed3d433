"""What clients that were not timed yet are expected to take, against sums by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from choosing import histories_of
from muster_coordinator.expecting import NOMINAL_BYTES, expected_s, line_s

NAN = float("nan")
MB = NOMINAL_BYTES

# work against the median: 1/2, 1, 1, 2; a megabyte there and back: 2, 2, 1, 1 s, against the median 4/3, 4/3, 2/3, 2/3
MACHINES: dict[str, Any] = {
    "flops": [2e9, 1e9, 1e9, 5e8],
    "latency_s": 0.0,
    "up_bytes_per_s": [MB, MB, 2 * MB, 2 * MB],
    "down_bytes_per_s": [MB, MB, 2 * MB, 2 * MB],
}


def expected(count: int, otherwise_s: float = 60.0, **columns: Any) -> list[float]:
    table = histories_of(count, **columns).table
    found: list[float] = expected_s(table, table, otherwise_s).tolist()
    return found


def test_who_was_timed_says_what_work_and_lines_take_and_profiles_say_what_that_is_for_others() -> None:
    # the first trained for 5 s, so the middle machine takes 10; and spent 4 s otherwise, the middle line 3
    found = expected(4, elapsed_s=[9.0, NAN, NAN, NAN], train_s=[5.0, NAN, NAN, NAN], **MACHINES)
    assert found == pytest.approx([9.0, 10 + 4, 10 + 2, 20 + 2])


def test_until_somebody_was_timed_work_and_lines_count_alike() -> None:
    assert expected(4, **MACHINES) == pytest.approx([15 + 40, 30 + 40, 30 + 20, 60 + 20])


def test_of_a_task_that_does_not_say_how_long_it_trains_it_is_half() -> None:
    found = expected(4, elapsed_s=[8.0, NAN, NAN, NAN], **MACHINES)
    assert found == pytest.approx([8.0, 8 + 4, 8 + 2, 16 + 2])


def test_who_has_no_profile_takes_the_usual_time() -> None:
    assert expected(4, elapsed_s=[10.0, 30.0, 20.0, NAN]) == [10.0, 30.0, 20.0, 20.0]
    assert expected(2) == [60.0, 60.0]
    mixed = expected(3, elapsed_s=[10.0, 40.0, NAN], flops=[1e9, NAN, NAN])
    assert mixed == pytest.approx([10.0, 40.0, 25.0])


def test_what_is_known_of_machines_alone_or_of_lines_alone_stands_for_both() -> None:
    assert expected(3, flops=[1e9, 2e9, 4e9]) == pytest.approx([120.0, 60.0, 30.0])
    assert expected(3, bytes_per_s=[1e6, 2e6, 4e6]) == pytest.approx([120.0, 60.0, 30.0])


def test_an_earlier_job_knows_better_than_a_worker_of_itself() -> None:
    assert expected(3, flops=1e9, pace_before=[0.5, 1.0, 2.0]) == pytest.approx([30.0, 60.0, 120.0])
    table = histories_of(1, bytes_per_s=MB / 4, up_bytes_per_s=MB, down_bytes_per_s=MB).table
    assert line_s(table).tolist() == [5.0]


def test_a_line_has_two_ways_and_a_latency() -> None:
    table = histories_of(
        4, up_bytes_per_s=[1e6, 1e6, 1e6, NAN], down_bytes_per_s=[2e6, 2e6, NAN, NAN], latency_s=[0, 0.1, 0, 0.1]
    ).table
    assert line_s(table, 1e6).tolist() == pytest.approx([1.5, 1.6, 2.0, NAN], nan_ok=True)


def test_small_updates_make_latency_count_and_large_ones_rates() -> None:
    lines = {"up_bytes_per_s": [1e6, 1e6, 1e7], "down_bytes_per_s": [1e6, 1e6, 1e7], "latency_s": [0.01, 0.01, 1.0]}
    sent = {"elapsed_s": [NAN] * 3, "used": [2, 0, 0]}
    small, large = (expected(3, bytes_up=[size, 0, 0], **lines, **sent) for size in (2000, 2e8))
    assert small[2] > small[1]
    assert large[2] < large[1]


def test_the_cohort_is_seen_beside_everybody() -> None:
    table = histories_of(4, elapsed_s=[9.0, NAN, NAN, NAN], train_s=[5.0, NAN, NAN, NAN], **MACHINES).table
    assert expected_s(table[3:], table, 60.0).tolist() == pytest.approx([22.0])
    assert expected_s(table[:0], table, 60.0).tolist() == []
    assert np.isfinite(expected_s(table, histories_of(0).table, 60.0)).all()
