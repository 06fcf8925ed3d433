"""Whoever looks on while a worker works: metrics, traces, or nobody.

The loop says what it does and for which assignment; what becomes of that is decided here. Nothing of it is imported
where neither was asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

from muster.audit import AuditLog, Told
from muster.errors import MusterError
from muster.orders import Assignment
from muster_telemetry.logs import bound
from muster_telemetry.tracing import open_tracing, round_trace

if TYPE_CHECKING:
    from muster_telemetry.otel import Tracing


class Witness(Protocol):
    """Looks on. All from the working thread."""

    def sends(self, assignment: Assignment, told: Mapping[str, Told]) -> None:
        """This is about to leave the site. What raises here keeps it from leaving."""

    def answered(self, assignment: Assignment, *, accepted: bool, reason: str) -> None:
        """The coordinator has taken an update, or not."""

    def doing(self, what: str, assignment: Assignment) -> AbstractContextManager[None]:
        """While this is done for this assignment."""

    def settled(self, *, used: bool) -> None:
        """An update was used, or not."""


class Tacit:
    """The base of those who don't tell of what is sent."""

    def sends(self, assignment: Assignment, told: Mapping[str, Told]) -> None:
        """Nothing to do."""

    def answered(self, assignment: Assignment, *, accepted: bool, reason: str) -> None:
        """Nothing to do."""


class Nobody(Tacit):
    """Only the log knows."""

    def doing(self, what: str, assignment: Assignment) -> AbstractContextManager[None]:  # noqa: ARG002 - a witness's
        return bound(round=assignment.round, client=assignment.client)

    def settled(self, *, used: bool) -> None:
        """Nothing to do."""


class Traced(Tacit):
    """Makes a span of whatever is done, under the round that it is done for."""

    def __init__(self, tracing: Tracing, job_uid: str) -> None:
        self._tracing = tracing
        self._uid = job_uid

    @contextmanager
    def doing(self, what: str, assignment: Assignment) -> Iterator[None]:
        trace = round_trace(self._uid, assignment.round)
        about: dict[str, str | int] = {"muster.round": assignment.round, "muster.client": assignment.client}
        with self._tracing.span(what, self._tracing.within(trace), about):
            yield

    def settled(self, *, used: bool) -> None:
        """Nothing to do: the round's own span tells."""


class Audited(Nobody):
    """Writes down what is sent, before it is: its size and digest, never what is in it.

    Once, however often it is tried.
    """

    def __init__(self, log: AuditLog, job: str, now: Callable[[], float] = time.time) -> None:
        self._log = log
        self._job = job
        self._now = now
        self._begun: dict[str, Mapping[str, Told]] = {}

    def sends(self, assignment: Assignment, told: Mapping[str, Told]) -> None:
        if self._begun.get(assignment.id) != told:
            self._write("sends", assignment, **told)
            self._begun[assignment.id] = told

    def answered(self, assignment: Assignment, *, accepted: bool, reason: str) -> None:
        self._write("accepted" if accepted else "not accepted", assignment, **({"reason": reason} if reason else {}))
        self._begun.pop(assignment.id, None)

    def _write(self, event: str, assignment: Assignment, **told: Told) -> None:
        about: dict[str, Told] = {"job": self._job, "round": assignment.round, "client": str(assignment.client)}
        self._log.write(event, self._now(), **(about | told))


class Several:
    """All of them look on."""

    def __init__(self, *witnesses: Witness) -> None:
        self._witnesses = witnesses

    def sends(self, assignment: Assignment, told: Mapping[str, Told]) -> None:
        for witness in self._witnesses:
            witness.sends(assignment, told)

    def answered(self, assignment: Assignment, *, accepted: bool, reason: str) -> None:
        for witness in self._witnesses:
            witness.answered(assignment, accepted=accepted, reason=reason)

    @contextmanager
    def doing(self, what: str, assignment: Assignment) -> Iterator[None]:
        with ExitStack() as stack:
            for witness in self._witnesses:
                stack.enter_context(witness.doing(what, assignment))
            yield

    def settled(self, *, used: bool) -> None:
        for witness in self._witnesses:
            witness.settled(used=used)


class Watch:
    """The witnesses that a worker's settings and environment ask for, from before it joins until it leaves."""

    def __init__(self, pool: str, metrics: str | None, audit: AuditLog | None = None) -> None:
        self._audit = audit
        self._tracing = open_tracing("worker", {"muster.pool": pool})
        self._pool = pool
        self._address = metrics
        self._stack = ExitStack()

    def carry(self) -> tuple[tuple[str, str], ...]:
        """Metadata for a call that belongs to what is being done now."""
        return self._tracing.carry() if self._tracing else ()

    def joined(self, job: str, job_uid: str) -> Witness:
        """Who looks on from now. Raises MusterError where metrics can't be served."""
        witnesses: list[Witness] = [Nobody()]
        if self._tracing:
            witnesses.append(Traced(self._tracing, job_uid))
        if self._address:
            witnesses.append(self._serve(self._address, job))
        if self._audit:
            witnesses.append(Audited(self._audit, job))
        return Several(*witnesses)

    def _serve(self, address: str, job: str) -> Witness:
        from muster.metrics import WorkerMetrics
        from muster_telemetry.scraping import MetricsServer

        metrics = WorkerMetrics({"fedjob": job, "pool": self._pool})
        try:
            self._stack.enter_context(MetricsServer(address, metrics.registry))
        except (OSError, ValueError) as error:
            raise MusterError(f"--metrics {address}: can't be opened: {error}") from error
        return metrics

    def close(self) -> None:
        """Serve no more, and send the spans that are left."""
        self._stack.close()
        if self._tracing:
            self._tracing.close()
