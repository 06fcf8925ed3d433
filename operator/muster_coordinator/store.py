"""The job's history on a disk: the driver writes it, a coordinator that starts reads it, nothing else remembers.

```
job.json                    whose history this is
carried.json                what earlier jobs knew of the clients, where the job asks for that
epochs/000003               one empty file a coordinator session, created exclusively
plans/000007.0.json         round 7, attempt 0: durable before anybody is asked to work
rounds/000007.json          the commit, created exclusively: the fence
evaluations/000007.json
models/<digest>.safetensors the last k and the best, stored before the record that names them
server/<digest>.safetensors what a server optimiser keeps with the last k
references/                 how versions go out to clients, where that is a chain of changes: see shelf.py
```
On an object store these are objects, and the directory is a copy of those that this coordinator needs: see mirrored.py.

A newest record that is torn or altered is put aside as `*.corrupt` and history goes on from the round before it; the
same for a model whose bytes no longer have their digest. Nothing is thrown away on the strength of a broken file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TypeVar

import msgspec

from muster_coordinator import durable
from muster_coordinator.bucket import Bucket
from muster_coordinator.durable import BrokenSeal, Disk, Write
from muster_coordinator.errors import CommitLost, StorageError
from muster_coordinator.jobfile import JobFile, check_same_job
from muster_coordinator.mirrored import MirroredDisk, empty_copy
from muster_coordinator.observer import Observer
from muster_coordinator.records import Carried, EvaluationRecord, RoundCommit, RoundPlan
from muster_coordinator.recovery import History
from muster_coordinator.shelf import Shelf
from muster_spec.types import ResolvedJob

FOLDERS = ("epochs", "plans", "rounds", "evaluations", "models", "server", "references")
CARRIED = "carried.json"
PLANS_READ = 64  # rounds back at least, and as many as late updates are welcome for

RecordT = TypeVar("RecordT", bound=msgspec.Struct)


class FileStore:
    """A store in one directory of a file system with hard links; or in an object store, of which this is a copy."""

    def __init__(self, root: Path, observer: Observer, bucket: Bucket | None = None) -> None:
        self.root = root
        self.place = bucket.url if bucket else str(root)
        self._disk = MirroredDisk(observer, root=root, bucket=bucket) if bucket else Disk(observer)
        self._folders = [root / name for name in FOLDERS]
        self.staging = root / "staging"  # files without a name, only for as long as a coordinator lives
        epochs, plans, rounds, evaluations, models, server, references = self._folders
        self._epochs, self._plans, self._rounds, self._evaluations = epochs, plans, rounds, evaluations
        self._models, self._server = models, server
        self.shelf = Shelf(references, self._disk)
        self._plans_read = PLANS_READ

    def open(self, job: ResolvedJob, plans_read: int = PLANS_READ) -> None:
        """Make ready, or refuse: raises StorageError for a place that can't be used, WrongJobError for another's."""
        self._plans_read = max(plans_read, PLANS_READ)
        if isinstance(self._disk, MirroredDisk):
            empty_copy(self.root, FOLDERS)
        try:
            for folder in (*self._folders, self.staging):
                folder.mkdir(parents=True, exist_ok=True)
            for folder in (self.root, *self._folders):
                durable.clear_temporaries(folder)
        except OSError as error:
            raise StorageError(f"storage {self.root}: {error.strerror}: {error.filename}") from error
        self._disk.check(self.root)
        if isinstance(self._disk, MirroredDisk):
            self._disk.bring_records(self._plans_read)
        self._claim(job)

    def _claim(self, job: ResolvedJob) -> None:
        path = self.root / "job.json"
        stored = self._read_job(path)
        if stored is not None:
            check_same_job(stored, job)
        if stored != job:
            self._disk.replace(path, lambda file: file.write(durable.seal(JobFile(job=job))))

    def _read_job(self, path: Path) -> ResolvedJob | None:
        try:
            return durable.unseal(path.read_bytes(), JobFile).job
        except FileNotFoundError:
            return None
        except BrokenSeal as error:
            raise StorageError(
                f"{path}: {error}; it says whose history this is: put it back from a copy, or use an empty directory"
            ) from error

    def next_epoch(self) -> int:
        """A number that no other coordinator session of this job has."""
        epoch = max((int(path.name) for path in self._epochs.iterdir() if path.name.isdigit()), default=0) + 1
        while not self._disk.create(self._epochs / f"{epoch:06d}", lambda file: file.write(self._mine())):
            epoch += 1
        return epoch

    def _mine(self) -> bytes:
        """What tells this coordinator's file from another's."""
        return f"{self._disk.token}\n".encode()

    # --- writing ------------------------------------------------------------------------------------------------------

    def save_plan(self, plan: RoundPlan) -> None:
        self._disk.replace(self._plan_path(plan.round, plan.attempt), lambda file: file.write(durable.seal(plan)))

    def save_commit(self, commit: RoundCommit) -> None:
        path = self._rounds / f"{commit.round:06d}.json"
        if not self._disk.create(path, lambda file: file.write(durable.seal(commit))):
            raise CommitLost(
                f"round {commit.round} has been committed by another coordinator on {self.place}; this one leaves"
            )

    def save_evaluation(self, record: EvaluationRecord) -> None:
        path = self._evaluations / f"{record.round:06d}.json"
        self._disk.replace(path, lambda file: file.write(durable.seal(record)))

    def save_carried(self, carried: Carried) -> None:
        self._disk.replace(self.root / CARRIED, lambda file: file.write(durable.seal(carried)))

    def save_model(self, digest: str, write: Write) -> Path:
        path = self._models / f"{digest}.safetensors"
        if not path.exists():  # models are named by their content
            self._disk.replace(path, write)
        return path

    def model_path(self, digest: str) -> Path:
        """Where it is, brought here first if need be; there may be none."""
        return self._disk.bring(self._models / f"{digest}.safetensors")

    def remove_models(self, digests: Collection[str]) -> None:
        for digest in digests:
            self._disk.remove(self._models / f"{digest}.safetensors")

    def save_server_state(self, digest: str, write: Write) -> Path:
        path = self._server / f"{digest}.safetensors"
        if not path.exists():
            self._disk.replace(path, write)
        return path

    def server_state_path(self, digest: str) -> Path:
        return self._disk.bring(self._server / f"{digest}.safetensors")

    def remove_server_states(self, digests: Collection[str]) -> None:
        for digest in digests:
            self._disk.remove(self._server / f"{digest}.safetensors")

    def export_model(self, digest: str, name: str) -> Path:
        """Give a stored model a name that people look for, beside the records."""
        path = self.root / name
        self._disk.name_too(self.model_path(digest), path)
        return path

    # --- reading ------------------------------------------------------------------------------------------------------

    def read_carried(self) -> Carried | None:
        """What this job began with of earlier ones; None before that was written. A broken one counts as nothing."""
        try:
            return durable.unseal((self.root / CARRIED).read_bytes(), Carried)
        except FileNotFoundError:
            return None
        except BrokenSeal:
            return Carried(clients={})

    def read_history(self) -> tuple[History, tuple[str, ...]]:
        """Everything durable, as far as it is whole, and what was found wrong, for people."""
        warnings: list[str] = []
        commits = self._commits(warnings)
        plans = self._newest_plans(commits, warnings)
        evaluations = self._whole_records(self._evaluations.glob("*.json"), EvaluationRecord, warnings)
        models = {commit.round: commit.model for commit in commits}
        history = History(
            commits=tuple(commits),
            plans=tuple(plan for plan in plans if _fits(plan, commits)),
            evaluations=tuple(record for record in evaluations if models.get(record.round) == record.model),
        )
        return history, tuple(warnings)

    def _commits(self, warnings: list[str]) -> list[RoundCommit]:
        """Every commit. Broken ones at the end are put aside, if a whole one is left: their rounds run again."""
        paths = sorted(self._rounds.glob("*.json"))
        broken = list(takewhile(lambda found: found[1], ((p, _seal_error(p, RoundCommit)) for p in reversed(paths))))
        whole = paths[: len(paths) - len(broken)]
        if broken and not whole:
            raise StorageError(
                f"{self._rounds}: not one of the {len(paths)} rounds' records is whole ({broken[-1][0].name}: "
                f"{broken[-1][1]}): put them back from a copy, or start anew in an empty directory"
            )
        warnings.extend(self._put_aside(path, reason or "") for path, reason in broken)
        commits = [self._commit(path, number) for number, path in enumerate(whole)]
        if broken:
            warnings.append(f"going on from round {len(commits) - 1}")
        return commits

    def _commit(self, path: Path, number: int) -> RoundCommit:
        expected = self._rounds / f"{number:06d}.json"
        if path != expected:
            raise StorageError(f"{expected} is missing, but later rounds are there: put it back from a copy")
        if broken := _seal_error(path, RoundCommit):
            raise StorageError(f"{path}: {broken}; later rounds build on it: put it back from a copy")
        return durable.unseal(path.read_bytes(), RoundCommit)

    def _newest_plans(self, commits: Sequence[RoundCommit], warnings: list[str]) -> list[RoundPlan]:
        rounds = range(max(len(commits) - self._plans_read, 0), len(commits) + 1)
        paths = [path for number in rounds for path in self._plans.glob(f"{number:06d}.*.json")]
        return self._whole_records(paths, RoundPlan, warnings)

    def _whole_records(self, paths: Iterable[Path], kind: type[RecordT], warnings: list[str]) -> list[RecordT]:
        whole = []
        for path in sorted(paths):
            if broken := _seal_error(path, kind):
                warnings.append(self._put_aside(path, broken))
            else:
                whole.append(durable.unseal(path.read_bytes(), kind))
        return whole

    def put_aside_rounds_after(self, last: int, unreadable: Iterable[RoundCommit]) -> list[str]:
        """Go back to an earlier round. Later commits, and what they name, keep their bytes under other names."""
        aside = [path for path in sorted(self._rounds.glob("*.json")) if int(path.stem) > last]
        named = {path for commit in unreadable for path in self._named_by(commit)}
        still = {path for path in self._rounds.glob("*.json") if path not in aside}
        kept = {path for record in still for path in self._named_by(durable.unseal(record.read_bytes(), RoundCommit))}
        files = sorted(path for path in named - kept if path.exists())
        return [self._put_aside(path, "its model can't be read") for path in (*aside, *files)]

    def _named_by(self, commit: RoundCommit) -> tuple[Path, ...]:
        """The files without which a round can't be gone on from."""
        model = self.model_path(commit.model)
        return (model, self.server_state_path(commit.server_state)) if commit.server_state else (model,)

    def _put_aside(self, path: Path, reason: str) -> str:
        aside = path.with_name(f"{path.name}.corrupt")
        self._disk.put_aside(path, aside)
        return f"{path.relative_to(self.root)}: {reason}; kept as {aside.name}"

    def _plan_path(self, number: int, attempt: int) -> Path:
        return self._plans / f"{number:06d}.{attempt}.json"


def _fits(plan: RoundPlan, commits: Sequence[RoundCommit]) -> bool:
    """A plan that was made for a round which has been put aside since is of no use."""
    return plan.round == 0 or (plan.round <= len(commits) and plan.base == commits[plan.round - 1].model)


def _seal_error(path: Path, kind: type[msgspec.Struct]) -> str | None:
    """What is wrong with a record's file, if anything is."""
    try:
        durable.unseal(path.read_bytes(), kind)
    except BrokenSeal as error:
        return str(error)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    return None
