"""A worker of an External pool: a site's own process, which waits in the lobby and works for the jobs that the site
allows.

It enrols once and stays; each job is a process of its own (visits.py) that it starts, watches and comes back from. All
that is offered, taken, refused and sent is in the site's audit log. Only a stop from outside, or a lobby that says no
for good, ends it.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

from muster.audit import AuditLog
from muster.channel import enrol
from muster.choosing import Decision, Memory, Offer, decide, standing_message
from muster.credentials import BundleSource, EnrolledCredentials
from muster.errors import MusterError
from muster.policy import SitePolicy
from muster.reception import WHO, Reception
from muster.visits import Visit, Visitor
from muster.worker import EXIT_BAD_INPUT, Join
from muster_telemetry.logs import LogFormat, start_logging
from muster_wire.trust.bundle import Bundle
from muster_wire.trust.files import write_private

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExternalSettings:
    """What an External worker is told when it starts. `capacity` 0: as many clients as each job says."""

    lobby: str
    pool: str
    join: Join
    policy: SitePolicy
    policy_place: str  # where it came from, for the log
    audit: Path
    indices: tuple[int, ...] = ()
    capacity: int = 0
    share: int = 0
    data: Path | None = None
    state: Path | None = None
    log_format: LogFormat = "text"
    metrics: str | None = None


def run_external(settings: ExternalSettings) -> int:
    """Wait and work until stopped.

    The exit code: 2 the lobby or a file says no for good, 130 and 143 SIGINT and SIGTERM.
    """
    start_logging(settings.log_format, fields={"pool": settings.pool})
    bell, signals = Bell(), list[int]()

    def hear(number: int, _: FrameType | None) -> None:
        signals.append(number)
        bell.ring()

    before = {number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT)}
    folder = Path(tempfile.mkdtemp(prefix="muster-"))  # private by itself
    try:
        site = Site(settings, folder, bell)
        return site.run(lambda: signals[0] if signals else 0)
    except MusterError as error:
        log.error("%s", error)  # noqa: TRY400 -- one plain line
        return EXIT_BAD_INPUT
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for number, handler in before.items():
            signal.signal(number, handler)


class Bell:
    """Rung by other threads and by signal handlers: its lock may be taken again by the thread that holds it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._rung = False

    def ring(self) -> None:
        """There is news."""
        with self._changed:
            self._rung = True
            self._changed.notify_all()

    def wait(self, timeout_s: float | None) -> None:
        """Until it has been rung since the last wait, or this much time has passed."""
        with self._changed:
            self._changed.wait_for(lambda: self._rung, timeout_s)
            self._rung = False


class Site:
    """The worker, put together. Everything happens in the thread that calls `run`."""

    def __init__(self, settings: ExternalSettings, folder: Path, bell: Bell) -> None:
        """Raises MusterError for a bundle or an audit log that can't be used."""
        self._settings = settings
        self._audit = AuditLog(settings.audit)
        source = BundleSource(settings.join.text, settings.join.place, settings.join.file)
        at_the_lobby = partial(enrol, settings.lobby, who=WHO)
        self._credentials = EnrolledCredentials(source, at_the_lobby, settings.state, time.time)
        name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._reception = Reception(settings.lobby, self._credentials, name, bell.ring)
        self._bell = bell
        self._bundle = folder / "pool.json"
        self._memory = Memory()
        self._seen: dict[str, str] = {}  # what was said of a job in the audit log last
        self._was_connected = False

    def run(self, stopped_by: Callable[[], int]) -> int:
        """Until a signal has come, or the lobby says no for good."""
        settings = self._settings
        self._write("started", policy=settings.policy_place, lobby=settings.lobby, pool=settings.pool)
        self._reception.start()
        try:
            while not (number := stopped_by()):
                if refused := self._reception.heard.refused:
                    return self._leave(EXIT_BAD_INPUT, refused)
                decision = self._consider("")
                if decision.take is None:
                    self._wait(decision)
                else:
                    self._visit(decision.take, stopped_by)
            return self._leave(128 + number, f"stopped by {signal.Signals(number).name}")
        finally:
            self._reception.stop()

    def _leave(self, code: int, reason: str) -> int:
        log.log(logging.ERROR if code == EXIT_BAD_INPUT else logging.INFO, "leaving: %s", reason)
        self._write("stopped", reason=reason)
        return code

    def _wait(self, decision: Decision) -> None:
        timeout_s = None if decision.again_at is None else max(0.0, decision.again_at - time.monotonic())
        self._bell.wait(timeout_s)

    def _write(self, event: str, **told: str | int | list[str]) -> None:
        self._audit.write(event, time.time(), **told)

    # --- what is offered ----------------------------------------------------------------------------------------------

    def _consider(self, job: str) -> Decision:
        """What follows from what is offered now. The lobby is told, and for which job (its uid) the worker works."""
        self._note_connection()
        offers = self._reception.heard.offers or ()
        self._memory = self._memory.among(offers)
        decision = decide(offers, self._settings.policy, self._memory, time.monotonic())
        for offer in offers:
            self._note_offer(offer, decision)
        self._reception.stand(standing_message(job, decision.refusals))
        return decision

    def _note_offer(self, offer: Offer, decision: Decision) -> None:
        """Once, and again where the answer is another."""
        refusal = decision.refusals.get(offer.job)
        answer = f"{refusal.because.value}: {refusal.message}" if refusal else "allowed"
        if self._seen.get(offer.job) == answer:
            return
        if offer.job not in self._seen:
            terms = offer.terms
            about = {"entrypoint": terms.task.entrypoint, "image": terms.image} if terms else {}
            self._write("offered", job=offer.name, uid=offer.job, **about)
        self._seen[offer.job] = answer
        if refusal:
            log.warning("job %s is refused: %s", offer.name, answer)
            self._write("refused", job=offer.name, uid=offer.job, because=refusal.because.value, reason=refusal.message)

    def _note_connection(self) -> None:
        is_connected = self._reception.heard.is_connected
        if is_connected != self._was_connected:
            self._write("in the lobby" if is_connected else "cut off from the lobby")
        self._was_connected = is_connected

    # --- one job ------------------------------------------------------------------------------------------------------

    def _visit(self, offer: Offer, stopped_by: Callable[[], int]) -> None:
        self._write("accepted", job=offer.name, uid=offer.job, coordinator=offer.coordinator)
        self._show_bundle(offer)
        visitor = Visitor(self._visit_of(offer), self._bell.ring)
        log.info("working for job %s at %s", offer.name, offer.coordinator)
        while visitor.code is None and not stopped_by():
            self._consider(offer.job)
            self._show_bundle(offer)
            self._bell.wait(None)
        code = visitor.code if visitor.code is not None else visitor.stop()
        visitor.close()
        self._memory = self._memory.ended(offer.job, code, time.monotonic())
        self._write("left", job=offer.name, uid=offer.job, code=code)
        log.info("back from job %s: exit code %d", offer.name, code)

    def _show_bundle(self, offer: Offer) -> None:
        """What the job's process joins with: the pool's certificate of now, and who vouches for the coordinator."""
        pair = self._credentials.material().pair
        if pair is None:
            raise MusterError("there is no certificate to join with")
        bundle = Bundle(offer.coordinator, offer.authorities, pair.chain.decode(), pair.key.decode())
        text = bundle.to_json()
        if not self._bundle.exists() or self._bundle.read_text() != text:
            write_private(self._bundle, text.encode())

    def _visit_of(self, offer: Offer) -> Visit:
        settings = self._settings
        if offer.terms is None:
            raise MusterError("terms that can't be read allow nothing")
        return Visit(
            coordinator=offer.coordinator,
            pool=settings.pool,
            bundle=str(self._bundle),
            indices=settings.indices,
            capacity=settings.capacity or offer.capacity,
            share=settings.share if settings.capacity else offer.share,
            terms=offer.terms,
            audit=str(settings.audit.absolute()),
            data=str(settings.data.absolute()) if settings.data else None,
            state=str(settings.state.absolute()) if settings.state else None,
            log_format=settings.log_format,
            metrics=settings.metrics,
        )
