"""The store on a real directory: what is whole comes back, what is not is put aside, and nobody overwrites a round."""

import errno
import os

import pytest

from muster_coordinator.durable import BrokenSeal, Disk, seal, unseal
from muster_coordinator.errors import CommitLost, DiskError, StorageError, WrongJobError
from muster_coordinator.jobfile import check_same_job, differences
from muster_coordinator.observer import Unobserved
from muster_coordinator.records import EvaluationRecord, PlannedClient, RoundCommit, RoundPlan, Scores
from muster_coordinator.store import FileStore


def commit(number, base="", model=None):
    return RoundCommit(
        round=number,
        attempt=0,
        epoch=1,
        base=base,
        model=model or f"m{number}",
        used=(),
        failed={},
        failed_attempts=0,
        started_s=1.0,
        seconds=2.0,
        bytes_up=3,
        bytes_down=4,
    )


def plan(number, attempt=0, base=None):
    return RoundPlan(
        round=number,
        attempt=attempt,
        base=base if base is not None else (f"m{number - 1}" if number else ""),
        cohort=(PlannedClient(client="p/0", assignment=f"{number}.{attempt}.p/0", seed=1, reason="asked"),),
        close_at=1,
        minimum=1,
        deadline_s=5.0,
        epoch=1,
    )


class Places(list):
    def reached(self, place):
        self.append(place)


@pytest.fixture
def store(tmp_path, resolved_job):
    made = FileStore(tmp_path / "storage", Unobserved())
    made.open(resolved_job)
    return made


def fill(store, rounds):
    for number in range(rounds):
        store.save_plan(plan(number))
        store.save_commit(commit(number, base=f"m{number - 1}" if number else ""))


def test_an_empty_store_has_no_history(store):
    history, warnings = store.read_history()
    assert (history.commits, history.plans, history.evaluations, warnings) == ((), (), (), ())


def test_what_was_saved_comes_back(store):
    fill(store, 3)
    store.save_plan(plan(3))
    store.save_plan(plan(3, attempt=1))
    record = EvaluationRecord(round=2, model="m2", central=Scores(metrics={"loss": 0.5}, examples=9, clients=1))
    store.save_evaluation(record)
    history, warnings = store.read_history()
    assert [each.round for each in history.commits] == [0, 1, 2]
    assert [(each.round, each.attempt) for each in history.plans] == [(0, 0), (1, 0), (2, 0), (3, 0), (3, 1)]
    assert history.evaluations == (record,)
    assert warnings == ()


def test_a_round_is_committed_once(store):
    store.save_commit(commit(0))
    with pytest.raises(CommitLost, match="round 0 has been committed by another coordinator"):
        store.save_commit(commit(0, model="another"))
    assert store.read_history()[0].commits[0].model == "m0"


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data.replace(b"m2", b"m9"), lambda _: b""])
def test_a_broken_newest_commit_is_put_aside(store, damage):
    fill(store, 3)
    path = store.root / "rounds" / "000002.json"
    data = path.read_bytes()
    path.write_bytes(damage(data))
    history, warnings = store.read_history()
    assert [each.round for each in history.commits] == [0, 1]
    assert "rounds/000002.json" in warnings[0]
    assert warnings[1] == "going on from round 1"
    assert (store.root / "rounds" / "000002.json.corrupt").read_bytes() == damage(data)
    store.save_commit(commit(2, base="m1"))  # its place is free again


def test_a_broken_older_commit_stops_everything_and_touches_nothing(store):
    fill(store, 3)
    path = store.root / "rounds" / "000001.json"
    path.write_bytes(b"{}")
    with pytest.raises(StorageError, match=r"000001\.json.*later rounds build on it: put it back"):
        store.read_history()
    assert path.exists()
    path.unlink()
    with pytest.raises(StorageError, match=r"000001\.json is missing"):
        store.read_history()


def test_a_history_without_a_whole_round_is_refused_and_left_as_it_is(store):
    fill(store, 2)
    paths = sorted((store.root / "rounds").glob("*.json"))
    for path in paths:
        path.write_bytes(b"{}")
    with pytest.raises(StorageError, match=r"not one of the 2 rounds' records is whole .*put them back from a copy"):
        store.read_history()
    assert [path.read_bytes() for path in paths] == [b"{}", b"{}"]


def test_plans_and_evaluations_of_what_is_gone_do_not_count(store):
    fill(store, 3)
    store.save_plan(plan(3))
    store.save_evaluation(EvaluationRecord(round=2, model="m2"))
    (store.root / "rounds" / "000002.json").unlink()
    history, _ = store.read_history()
    assert [each.round for each in history.plans] == [0, 1, 2]
    assert history.evaluations == ()


def test_every_durable_write_is_heard_of(tmp_path, resolved_job):
    places = Places()
    store = FileStore(tmp_path / "storage", places)
    store.open(resolved_job)
    places.clear()
    store.save_commit(commit(0))
    assert places == ["writing 000000.json", "wrote aside 000000.json", "named 000000.json", "wrote 000000.json"]


def test_a_crash_before_the_name_leaves_nothing(tmp_path, resolved_job):
    class Crash:
        def reached(self, place):
            if place == "wrote aside 000000.json":
                raise KeyboardInterrupt

    FileStore(tmp_path / "storage", Unobserved()).open(resolved_job)
    with pytest.raises(KeyboardInterrupt):
        FileStore(tmp_path / "storage", Crash()).save_commit(commit(0))
    assert list((tmp_path / "storage" / "rounds").iterdir())
    again = FileStore(tmp_path / "storage", Unobserved())
    again.open(resolved_job)
    assert not list((tmp_path / "storage" / "rounds").iterdir())
    assert again.read_history()[0].commits == ()


def test_a_coordinator_whose_work_was_cleared_away_is_fenced(tmp_path, resolved_job):
    newer = FileStore(tmp_path / "storage", Unobserved())
    newer.open(resolved_job)

    class NewerStarts:
        def reached(self, place):
            if place.startswith("wrote aside"):
                newer.open(resolved_job)

    with pytest.raises(CommitLost, match="another coordinator has started"):
        FileStore(tmp_path / "storage", NewerStarts()).save_commit(commit(0))


def test_epochs_are_never_given_twice(store, tmp_path):
    assert [store.next_epoch(), store.next_epoch()] == [1, 2]
    other = FileStore(tmp_path / "storage", Unobserved())
    assert other.next_epoch() == 3


def test_models_are_removed_and_exported(store):
    for digest in ("a", "b", "c"):
        store.save_model(digest, lambda file, digest=digest: file.write(digest.encode()))
    store.remove_models({"b"})
    assert sorted(path.stem for path in (store.root / "models").iterdir()) == ["a", "c"]
    for digest in ("a", "a", "c"):
        assert store.export_model(digest, "final.safetensors").read_text() == digest


def test_another_job_is_refused(store, resolved_job, replaced):
    with pytest.raises(WrongJobError, match="holds the history of job"):
        store.open(replaced(resolved_job, uid="another"))


def test_a_changed_specification_is_refused_by_path(resolved_job, replaced):
    changed = replaced(resolved_job, **{"spec.local.learningRate": 9.0, "spec.rounds.total": 1})
    with pytest.raises(WrongJobError, match=r"spec\.rounds\.total: was .* is now 1; spec\.local\.learningRate: was"):
        check_same_job(resolved_job, changed)


@pytest.mark.parametrize(
    "change", [{"spec.rounds.total": 1000}, {"spec.suspend": True}, {"pools.0.spec.workers.min": 0}, {}]
)
def test_what_may_change(resolved_job, replaced, change):
    check_same_job(resolved_job, replaced(resolved_job, **change))


def test_differences_name_leaves():
    was, new = {"a": {"b": [1, 2]}, "c": 1}, {"a": {"b": [1, 3]}, "d": 2}
    assert list(differences(was, new)) == [("a.b[1]", 2, 3), ("c", 1, "absent"), ("d", "absent", 2)]


def test_a_directory_that_cannot_be_made(tmp_path, resolved_job):
    (tmp_path / "storage").write_text("")
    with pytest.raises(StorageError, match="Not a directory"):
        FileStore(tmp_path / "storage", Unobserved()).open(resolved_job)


def test_create_refuses_a_taken_name(tmp_path):
    disk = Disk(Unobserved())
    assert disk.create(tmp_path / "x", lambda file: file.write(b"1"))
    assert not disk.create(tmp_path / "x", lambda file: file.write(b"2"))
    assert (tmp_path / "x").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_disk_that_takes_no_more_is_told_apart_from_one_that_cannot_be_used(tmp_path):
    def fill_up(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DiskError, match=r"cannot write .*x: No space left on device"):
        Disk(Unobserved()).create(tmp_path / "x", fill_up)
    assert list(tmp_path.iterdir()) == []


def test_seals_notice_every_changed_byte():
    data = seal(commit(3))
    assert unseal(data, RoundCommit) == commit(3)
    for place in range(len(data) - 1):
        altered = bytearray(data)
        altered[place] ^= 1
        with pytest.raises(BrokenSeal):
            unseal(bytes(altered), RoundCommit)
