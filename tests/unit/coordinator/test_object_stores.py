"""A store whose truth is elsewhere, here a folder behind fsspec: what is written there, and what of it comes back."""

from __future__ import annotations

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from muster_coordinator.bucket import Bucket
from muster_coordinator.errors import CommitLost, DiskError, StorageError
from muster_coordinator.observer import Unobserved
from muster_coordinator.records import PlannedClient, RoundCommit, RoundPlan
from muster_coordinator.settings import Storage, read_storage
from muster_coordinator.store import FileStore


class Careless(LocalFileSystem):
    """A store that never heard of conditions."""

    protocol = "careless"

    def pipe_file(self, path, value, mode="overwrite", **kwargs):  # noqa: ARG002
        super().pipe_file(path, value, mode="overwrite", **kwargs)


class Full(LocalFileSystem):
    """A store that takes nothing."""

    protocol = "full"

    def pipe_file(self, path, value, mode="overwrite", **kwargs):  # noqa: ARG002
        raise OSError(5, "slow down")


def commit(number, seconds=1.0):
    return RoundCommit(
        round=number,
        attempt=0,
        epoch=1,
        base=f"m{number - 1}" if number else "",
        model=f"m{number}",
        used=(),
        failed={},
        failed_attempts=0,
        started_s=1.0,
        seconds=seconds,
        bytes_up=3,
        bytes_down=4,
    )


def plan(number, attempt=0):
    return RoundPlan(
        round=number,
        attempt=attempt,
        base=f"m{number - 1}" if number else "",
        cohort=(PlannedClient(client="p/0", assignment=f"{number}.{attempt}.p/0", seed=1, reason="asked"),),
        close_at=1,
        minimum=1,
        deadline_s=5.0,
        epoch=1,
    )


def url_of(folder, protocol="file"):
    return f"{protocol}://{folder}"


@pytest.fixture
def machine(tmp_path, resolved_job):
    def begin(name, protocol="file"):
        store = FileStore(tmp_path / name, Unobserved(), Bucket(url_of(tmp_path / "there", protocol)))
        store.open(resolved_job)
        return store

    return begin


def write(store, number):
    store.save_plan(plan(number))
    store.save_model(f"m{number}", lambda file: file.write(f"model {number}".encode()))
    store.save_commit(commit(number))


def test_what_one_machine_wrote_another_reads(machine, tmp_path):
    one = machine("one")
    assert one.next_epoch() == 1
    for number in range(3):
        write(one, number)
    one.remove_models(["m0"])
    one.export_model("m2", "final.safetensors")
    two = machine("two")
    assert two.next_epoch() == 2
    history, warnings = two.read_history()
    assert ([each.round for each in history.commits], warnings) == ([0, 1, 2], ())
    assert [each.round for each in history.plans] == [0, 1, 2]
    assert not list((tmp_path / "two" / "models").iterdir())  # not before somebody asks
    assert two.model_path("m2").read_bytes() == b"model 2"
    assert not two.model_path("m0").exists()
    assert (tmp_path / "there" / "final.safetensors").read_bytes() == b"model 2"


def test_of_two_machines_one_loses_a_round(machine):
    one, two = machine("one"), machine("two")
    one.save_commit(commit(0))
    with pytest.raises(CommitLost, match="round 0 has been committed by another coordinator on file://"):
        two.save_commit(commit(0, seconds=2.0))


def test_only_plans_of_the_newest_rounds_are_brought(machine, tmp_path, resolved_job):
    one = machine("one")
    for number in range(80):
        one.save_plan(plan(number))
        one.save_commit(commit(number))
    two = FileStore(tmp_path / "two", Unobserved(), Bucket(url_of(tmp_path / "there")))
    two.open(resolved_job)
    assert len(list((tmp_path / "two" / "plans").iterdir())) == 65
    assert len(two.read_history()[0].commits) == 80


def test_what_lies_on_the_machine_is_not_believed(machine, tmp_path):
    one = machine("one")
    write(one, 0)
    (tmp_path / "one" / "rounds" / "000001.json").write_bytes(b"from another life")
    assert [each.round for each in machine("one").read_history()[0].commits] == [0]


def test_a_damaged_record_is_put_aside_there_too(machine, tmp_path):
    one = machine("one")
    write(one, 0)
    write(one, 1)
    record = tmp_path / "there" / "rounds" / "000001.json"
    record.write_bytes(record.read_bytes()[:40])
    history, warnings = machine("two").read_history()
    assert [each.round for each in history.commits] == [0]
    assert "rounds/000001.json" in warnings[0]
    assert not record.exists()
    assert record.with_name("000001.json.corrupt").exists()


def test_a_coordinator_whose_copy_was_cleared_away_leaves(machine):
    one = machine("one")
    machine("one")  # on the same machine
    one.save_plan(plan(0))  # goes to the store in any case

    class Cleared:
        def reached(self, place):
            if place == "wrote aside 000000.0.json":
                machine("one")

    late = FileStore(one.root, Cleared(), Bucket(one.place))
    with pytest.raises(CommitLost, match="another coordinator has started"):
        late.save_plan(plan(0))


def test_a_store_without_conditions_is_refused(machine):
    fsspec.register_implementation("careless", Careless, clobber=True)
    with pytest.raises(StorageError, match="creates an object twice under one name"):
        machine("one", "careless")


def test_a_store_that_takes_nothing_may_take_it_later(machine):
    fsspec.register_implementation("full", Full, clobber=True)
    with pytest.raises(DiskError, match=r"full://.*: \[Errno 5\] slow down"):
        machine("one", "full")


@pytest.mark.parametrize("url", ["memory://x", "https://example.org/x"])
def test_places_where_nothing_lasts_are_refused(url):
    with pytest.raises(StorageError, match="nothing lasts"):
        Bucket(url)


def test_a_store_of_a_kind_that_nobody_knows_is_refused():
    with pytest.raises(StorageError, match="storage nowhere://x: "):
        Bucket("nowhere://x")


def test_the_command_line_says_where(tmp_path):
    assert read_storage(str(tmp_path), None) == Storage(tmp_path)
    assert read_storage("s3://b/f", tmp_path) == Storage(tmp_path, "s3://b/f")
    assert read_storage("s3://b/f", None).folder.is_dir()
