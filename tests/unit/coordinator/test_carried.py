"""What one job hands on to the next about its clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choosing import histories_of, names, request_for
from fake_world import FakeWorld, config_for
from muster_coordinator.carried import begin_with, to_hand_on
from muster_coordinator.durable import Disk
from muster_coordinator.histories import Histories
from muster_coordinator.observer import Unobserved
from muster_coordinator.poolmemory import PoolMemory
from muster_coordinator.records import KnownClient
from muster_coordinator.recovery import History, restore
from muster_coordinator.selectors.adaptive import Adaptive, waited
from muster_coordinator.store import FileStore
from muster_spec.types import ResolvedJob

PAST = histories_of(
    3,
    used=[8, 0, 0],
    failed=[0, 1, 0],
    late=[0, 1, 0],
    train_s=[10.0, 40.0, np.nan],
    bytes_per_s=[1e6, np.nan, np.nan],
    used_before=[4.0, 2.0, 0.0],
    pace_before=[np.nan, np.nan, 0.5],
)
BY_HAND = {  # half of what was before, and paces beside the median, 25 s
    "p/0": KnownClient(used=10.0, failed=0.0, pace=0.4, bytes_per_s=1e6),
    "p/1": KnownClient(used=1.0, failed=2.0, pace=1.6),
    "p/2": KnownClient(pace=0.5),
}


@pytest.fixture
def job(resolved_job: ResolvedJob, replaced: Callable[..., ResolvedJob], tmp_path: Path) -> ResolvedJob:
    memory = {"path": str(tmp_path / "known")}
    return replaced(resolved_job, **{"spec.selection": {"type": "Random", "memory": memory}})


class Places:
    """A job's storage, the pools' memory, and what was said."""

    def __init__(self, job: ResolvedJob, root: Path) -> None:
        self.said: list[str] = []
        self.store = FileStore(root, Unobserved())
        self.store.open(job)
        self.memory = PoolMemory(job, Disk(Unobserved()), self.said.append)

    def begin(self, history: History | None = None) -> dict[str, Any]:
        return dict(self.memory.begin(self.store, history or History()).carried)


def test_pace_rate_and_fading_counts_are_handed_on() -> None:
    assert to_hand_on(names(3, "p"), PAST.table) == BY_HAND


def test_whoever_nothing_is_known_of_is_left_out() -> None:
    assert to_hand_on(names(2, "p"), histories_of(2, used=[0, 3]).table) == {"p/1": KnownClient(used=3.0)}


def test_a_job_begins_with_what_the_one_before_it_left(job: ResolvedJob, tmp_path: Path) -> None:
    first, second = Places(job, tmp_path / "first"), Places(job, tmp_path / "second")
    assert first.begin() == {}
    first.memory.write(PAST)
    assert second.begin() == BY_HAND
    assert (tmp_path / "known" / "p.json").exists()
    assert first.said == second.said == []


def test_a_restart_begins_with_the_same_whatever_was_learnt_since(job: ResolvedJob, tmp_path: Path) -> None:
    Places(job, tmp_path / "first").memory.write(PAST)
    assert Places(job, tmp_path / "second").begin() == BY_HAND
    Places(job, tmp_path / "third").memory.write(histories_of(3, used=[1, 1, 1]))
    assert Places(job, tmp_path / "second").begin() == BY_HAND


def test_what_is_broken_or_cannot_be_written_is_said_and_costs_no_job(job: ResolvedJob, tmp_path: Path) -> None:
    folder = tmp_path / "known"
    folder.mkdir()
    (folder / "p.json").write_text("{torn")
    places = Places(job, tmp_path / "first")
    assert places.begin() == {}
    assert "nothing is known of pool p from earlier jobs" in places.said[0]
    (folder / "p.json").unlink()
    folder.rmdir()
    folder.write_text("a file")
    places.memory.write(PAST)
    assert places.said[-1].endswith("the next job will know nothing of this one")


def test_a_job_that_names_no_folder_leaves_nothing(resolved_job: ResolvedJob, tmp_path: Path) -> None:
    places = Places(resolved_job, tmp_path / "first")
    places.memory.write(PAST)
    assert places.begin() == {}
    assert not (tmp_path / "first" / "carried.json").exists()


def test_what_is_carried_is_known_but_nobody_was_asked_yet() -> None:
    config = config_for({"p": 3})
    histories = restore(config, History(carried=BY_HAND)).progress.histories
    assert histories == begin_with(BY_HAND, config.ordinals)
    row = histories.row(1)
    assert (row["asked"], row["used"], row["used_before"], row["failed_before"], row["pace_before"]) == (
        0,
        0,
        1.0,
        2.0,
        1.6,
    )
    assert begin_with({}, config.ordinals) == Histories()
    assert begin_with({"gone/0": KnownClient(used=1.0)}, config.ordinals).table["used_before"].sum() == 0  # type: ignore[dict-item]


def test_adaptive_prefers_who_was_quick_and_reliable_before() -> None:
    request = request_for(1, names(3, "p"), begin_with(BY_HAND, {name: row for row, name in enumerate(names(3, "p"))}))
    terms = Adaptive(1, 0, 1, 0, 0, 0).terms(request.rows, waited(request, request.rows))
    assert terms["capacity"].tolist() == pytest.approx([1 - 0.4 / 0.9, 1 - 1.6 / 2.1, 0.5])  # 0.5 is the median
    assert terms["reliability"].tolist() == pytest.approx([1.0, 3 / 5, 1.0])


def test_a_whole_job_goes_on_from_what_is_carried() -> None:
    config = config_for({"p": 3}, total=2)
    world = FakeWorld(config)
    world.state = replace(world.state, progress=restore(config, History(carried=BY_HAND)).progress)
    world.join()
    world.run()
    row = world.state.progress.histories.row(0)
    assert (row["used"], row["used_before"], row["pace_before"]) == (2, 10.0, 0.4)
