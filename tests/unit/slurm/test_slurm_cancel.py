"""What cancels in a bridge's place: everything of one pool, whatever SLURM says in between, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from muster_slurm.cancel import cancel_all, main
from muster_slurm.errors import Denied, SettingsError, Unreachable
from muster_slurm.jobs import Job
from muster_slurm.plan import SETTLE_S, Listing
from muster_slurm.process import BAD_INPUT
from muster_slurm.request import Keys, Tag

KEYS = Keys("u1", "hpc")
START = 100.0


def job(number: int, state: str = "RUNNING", *, array: int = 0, keys: Keys = KEYS, comment: str | None = None) -> Job:
    tag = Tag(0, 4, 0)
    said = keys.comment(tag) if comment is None else comment
    return Job(number, array or number, (0,), (state,), keys.name(tag), said)


@dataclass
class Site:
    """SLURM, with what it answers to each look, and nothing after that. It keeps the time, too."""

    answers: list[list[Job] | Exception]
    time: float = START
    cancelled: list[int] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def list_jobs(self, prefix: str) -> Listing:
        assert prefix == KEYS.uid
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, Exception):
            raise answer
        return Listing(self.time, tuple(answer))

    def cancel(self, job: int) -> None:
        self.cancelled.append(job)

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float, /) -> None:
        self.time += seconds
        self.waits.append(seconds)


def cancelling(site: Site) -> list[tuple[str, str]]:
    said: list[tuple[str, str]] = []
    cancel_all(site, KEYS, SETTLE_S, site, lambda what, words: said.append((what, words)))
    return said


def test_everything_of_the_pool_is_cancelled_and_nothing_else() -> None:
    arrays = [job(7, array=5), job(8, "PENDING", array=5), job(9, "COMPLETED")]
    odd = [job(11, comment="rewritten by the site"), job(12, "A_STATE_OF_TOMORROW")]
    site = Site([[*arrays, *odd, job(10, keys=Keys("u1", "other"))]])
    cancelling(site)
    assert site.cancelled == [5, 11, 12]


def test_it_ends_when_nothing_was_listed_for_as_long_as_a_submission_takes_to_show_up() -> None:
    site = Site([[], [], [], [job(3)], [job(3, "COMPLETING")], [job(3, "CANCELLED")]])
    cancelling(site)
    assert site.cancelled == [3, 3]  # to be told while it is ending does no harm
    assert site.time >= START + sum(site.waits[:5]) + SETTLE_S


def test_that_slurm_is_away_is_waited_out_ever_longer() -> None:
    site = Site([Unreachable("no answer"), Unreachable("no answer"), Denied("the token has expired"), [job(3)]])
    said = cancelling(site)
    assert site.cancelled == [3]
    first, second, third, *_ = site.waits
    assert first < second < third
    assert said == [
        ("warning", "no answer"),
        ("warning", "the token has expired"),
        ("cancel", "cancelling 3"),
        ("cancel", "SLURM has nothing of it"),
    ]


def test_silence_is_no_sign_that_nothing_is_left() -> None:
    site = Site([[], Unreachable("no answer")])
    cancelling(site)
    assert site.time >= START + sum(site.waits[:2]) + SETTLE_S


def test_a_secret_that_is_gone_has_to_be_put_right() -> None:
    with pytest.raises(SettingsError):
        cancelling(Site([SettingsError("there is no such file")]))


def test_without_a_job_there_is_nothing_to_look_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--job", "/nowhere", "--pool", "hpc"]) == BAD_INPUT
    assert "not a resolved job" in capsys.readouterr().err
