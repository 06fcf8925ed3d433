"""What the bridge remembers over its own death: what it has submitted, or was about to, and how its workers fared.

An entry is durable before SLURM is asked. So a bridge that died in between, or whose answer was lost, finds the number
of the submission again in what SLURM lists, and nothing is submitted twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from muster_slurm.errors import SettingsError
from muster_wire.durable import write_whole

Fate = Literal["", "done", "given up"]


class Submission(msgspec.Struct, frozen=True):
    """One array job, for those of its workers whose tasks haven't ended yet. `job` is 0 until SLURM's id is known."""

    number: int
    slots: tuple[int, ...]
    workers: int  # how many the pool had: it says which clients each of them acts for
    asked_at: float = 0.0
    job: int = 0
    base: int = 0  # which worker task 0 is: MaxArraySize keeps tasks' numbers low


class Worker(msgspec.Struct, frozen=True):
    """How one worker of the pool fared so far. `fate` is set once nothing more is to be submitted for it."""

    failures: int = 0
    not_before: float = 0.0
    fate: Fate = ""
    fruitless: int = 0  # jobs in a row that came to their time limit and had brought nothing
    was_limited: bool = False  # its last job came to its time limit; what that had brought isn't looked at yet


class Ledger(msgspec.Struct, frozen=True):
    """All of it. Workers that nothing is known of have no entry. `accepted`: SLURM has taken something of ours."""

    next: int = 0
    submissions: tuple[Submission, ...] = ()
    workers: dict[int, Worker] = msgspec.field(default_factory=dict)
    accepted: bool = False
    max_array: int = 0  # where SLURM doesn't tell it: what was found out

    def worker(self, slot: int) -> Worker:
        return self.workers.get(slot, Worker())


def read_ledger(path: Path) -> Ledger:
    """What an earlier bridge of this job and pool left; empty where there was none. Raises SettingsError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Ledger)
    except FileNotFoundError:
        return Ledger()
    except (OSError, msgspec.MsgspecError) as error:
        raise SettingsError(
            f"{path}: can't be read ({error}). It says which jobs are this pool's: put it back, or cancel those with "
            "scancel and remove it"
        ) from error


def write_ledger(path: Path, ledger: Ledger) -> None:
    """Make it durable."""
    write_whole(path, msgspec.json.encode(ledger))
