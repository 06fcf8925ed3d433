"""Keeps `status.training` of the job in the cluster up to date, and hears there whether the job is to be suspended.

About once a second the newest state is looked at, and written if it says something new: what came between two writes
is never sent. While nothing changes the job is read every few seconds. Whatever the API server answers, rounds go on:
this is for people, and nothing is decided by it but when to pause.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from muster_coordinator.apiserver import JobPort, JobSeen
from muster_coordinator.errors import JobGone, NoAnswer
from muster_coordinator.shown import Training
from muster_coordinator.training import moment

log = logging.getLogger("muster.coordinator")

EVERY_S = 1.0
LOOK_S = 5.0  # between two looks at a job that there is nothing to write about
LONGEST_PAUSE_S = 30.0
LAST_WORDS_S = 5.0


class Announcer:
    """Belongs to one event loop; the requests are made in threads of their own, one at a time.

    `tell` gives the newest value, None as long as there is none; `hear` is called with every answer; `unix` is the
    time of the clock on the wall.
    """

    def __init__(
        self,
        job: JobPort,
        tell: Callable[[], Training | None],
        hear: Callable[[JobSeen], None],
        unix: Callable[[], float],
        every_s: float = EVERY_S,
    ) -> None:
        self._job = job
        self._tell = tell
        self._hear = hear
        self._unix = unix
        self._every_s = every_s
        self._written: Training | None = None
        self._asked_at = 0.0
        self._failures = 0
        self._complaint = ""
        self._is_over = False
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> None:
        """Until cancelled, or until the job is gone."""
        while not self._is_over:
            pause_s = await self.say()
            await asyncio.sleep(pause_s)

    async def last_words(self) -> None:
        """What is true at the end, if the API server takes it within a few seconds."""
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                while not self._is_over and self._tell() != self._written:
                    pause_s = await self.say()
                    if self._failures:
                        await asyncio.sleep(min(pause_s, self._every_s))
        except TimeoutError:
            log.warning("the job's status may not say how this ended: the API server took no more words")

    async def say(self) -> float:
        """Write what is new, or look; the seconds until it is worth another try."""
        async with self._one_at_a_time:
            try:
                seen = await self._ask()
            except NoAnswer as error:
                return self._try_later(error)
            except JobGone as error:
                self._is_over = True
                log.warning("the job's status isn't written any more: %s", error)
                return self._every_s
            except Exception:
                # A fault of ours in what people are shown must not be the end of what they are shown.
                self._is_over = True
                log.exception("a fault of the coordinator itself: the job's status isn't written any more")
                return self._every_s
        if seen is not None:
            self._hear(seen)
        if self._failures:
            log.info("the job's status is written again")
        self._failures, self._complaint = 0, ""
        return self._every_s

    async def _ask(self) -> JobSeen | None:
        now, training = asyncio.get_running_loop().time(), self._tell()
        if training is not None and training != self._written:
            self._asked_at = now
            seen = await asyncio.to_thread(self._job.apply, written(training, self._unix()))
            self._written = training
            return seen
        if now - self._asked_at < LOOK_S:
            return None
        self._asked_at = now
        return await asyncio.to_thread(self._job.look)

    def _try_later(self, error: NoAnswer) -> float:
        if str(error) != self._complaint:
            log.warning("the job's status can't be written now, rounds go on: %s", error)
        self._complaint = str(error)
        self._failures += 1
        pause_s = min(LONGEST_PAUSE_S, self._every_s * 2.0 ** min(self._failures - 1, 10))
        return pause_s if error.after_s is None else max(error.after_s, self._every_s)


def written(training: Training, unix: float) -> dict[str, object]:
    """As it is sent."""
    value: dict[str, object] = msgspec.to_builtins(training)
    return value | {"updateTime": moment(unix)}
