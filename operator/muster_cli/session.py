"""Keeps the processes of a run alive until the job has ended: the only loop of the runner, and its only thread.

It waits for whatever comes first (a line from the coordinator, news from the nursery, a signal, the time to start
something again), hands events on, and decides nothing itself: `supervise` says who comes back, the coordinator says
when the job is over.
"""

from __future__ import annotations

import json
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from muster_cli.bridges import Bridges
from muster_cli.errors import ExitCode
from muster_cli.folder import RunFolder
from muster_cli.plan import RunPlan, WorkerPlan
from muster_cli.processes import Child, CoordinatorCommand, Nursery, last_words, worker_arguments
from muster_cli.site import Site
from muster_cli.stopping import StopSignals
from muster_cli.supervise import BAD_INPUT, GiveUp, Supervision, describe_exit, due, note_death
from muster_cli.view import Event

COORDINATOR = "coordinator"
NURSERY = "nursery"
ANY_PORT = "127.0.0.1:0"
TICK_S = 0.2
PATIENCE_S = 1.2  # for a coordinator that was asked to stop: everything is to be gone within two seconds
FENCED = 3


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: the job's state, why in words, and the runner's exit code."""

    state: str
    message: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Setup:
    """What a session works from."""

    plan: RunPlan
    folder: RunFolder
    coordinator: CoordinatorCommand
    token: str
    limit: int  # how often a process may die before it is given up
    site: Site | None = None  # where workers run that aren't started here


class Session:
    """One run's processes. Use `train`, then perhaps `fork` and `wait_for`, and `end` in any case."""

    def __init__(
        self, setup: Setup, signals: StopSignals, tell: Callable[[Event], None], tick: Callable[[], None]
    ) -> None:
        self._setup = setup
        self._signals = signals
        self._tell = tell
        self._tick = tick
        self._supervision = Supervision(setup.limit)
        self._workers = {worker.id: worker for worker in setup.plan.workers}
        self._running: set[str] = set()
        self._given_up: set[str] = set()
        self._coordinator: Child | None = None
        self._nursery: Nursery | None = None
        self._bridges = Bridges(setup.site)
        self._address: str | None = None
        self._finished: Event | None = None
        self._ending: Ending | None = None
        self._exit_codes: dict[str, int] = {}

    # --- the two phases -----------------------------------------------------------------------------------------------

    def train(self) -> Ending:
        """Run the job to its end, or until somebody stops us."""
        if self._workers:
            self._start(NURSERY)
        self._start(COORDINATOR)
        while self._ending is None:
            self._turn()
            if self._signals.received is not None:
                return self._stopped()
        return self._ending

    def fork(self, name: str, entry: str, arguments: dict[str, Any]) -> None:
        """Start another child of the nursery, one that is not restarted."""
        if self._nursery is not None:
            self._exit_codes.pop(name, None)
            self._nursery.start(name, entry, arguments, self._setup.folder.log(name), {})

    def wait_for(self, names: set[str]) -> dict[str, int] | None:
        """The exit codes of these children when all have ended; None if somebody stops us first."""
        while not names <= self._exit_codes.keys():
            self._turn()
            if self._signals.received is not None or self._nursery is None:
                return None
        return {name: self._exit_codes[name] for name in names}

    def end(self) -> None:
        """Leave nothing running. The coordinator first, so that it does not see its clients go."""
        if self._coordinator is not None:
            self._stop_coordinator(self._coordinator)
            self._coordinator = None
        self._bridges.end(self._tell, is_over=self._finished is not None)
        if self._nursery is not None:
            self._nursery.end()
            self._nursery = None

    def _stop_coordinator(self, coordinator: Child) -> None:
        """Ask it to leave and hear its last words: a round may still have been committed."""
        coordinator.signal(signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE_S
        while (left := deadline - time.monotonic()) > 0:
            readable, _, _ = select.select([coordinator], [], [], left)
            lines = coordinator.read_lines() if readable else None
            if lines is None:
                break
            for line in lines:
                self._heed(json.loads(line))
        coordinator.end(max(0.0, deadline - time.monotonic()))

    def kill(self) -> None:
        """Leave nothing running here, at once: for a second Ctrl-C. The nursery's children die with it."""
        for child in (self._coordinator, self._nursery, *self._bridges):
            if child is not None:
                child.kill()

    # --- one turn of the loop -----------------------------------------------------------------------------------------

    def _turn(self) -> None:
        children = (self._signals, self._coordinator, self._nursery, *self._bridges)
        sources = [source for source in children if source is not None]
        readable, _, _ = select.select(sources, [], [], TICK_S)
        if self._signals in readable:
            self._signals.drain()
        if self._coordinator is not None and self._coordinator in readable:
            self._hear_coordinator(self._coordinator)
        if self._nursery is not None and self._nursery in readable:
            self._hear_nursery(self._nursery)
        for name, code in self._bridges.hear(readable, self._tell):
            self._died(name, code, clients=())
        self._start_due()
        self._tick()

    def _start_due(self) -> None:
        self._supervision, ready = due(self._supervision, time.monotonic())
        for process in ready:
            self._start(process)

    def _start(self, process: str) -> None:
        if process == COORDINATOR:
            anywhere = self._setup.site.listen if self._setup.site else ANY_PORT
            self._coordinator = self._setup.coordinator.start(self._address or anywhere)
        elif process == NURSERY:
            self._nursery = Nursery(self._setup.plan.preload, self._setup.folder.log(NURSERY))
            self._start_workers()
        elif process in self._bridges.names:
            self._bridges.start(process)
        elif self._nursery is not None:
            self._start_worker(self._nursery, self._workers[process])

    def _start_workers(self) -> None:
        if self._nursery is None or self._address is None:
            return
        for worker in self._workers.values():
            if worker.id not in self._given_up:
                self._start_worker(self._nursery, worker)

    def _start_worker(self, nursery: Nursery, worker: WorkerPlan) -> None:
        if self._address is None or worker.id in self._running:
            return
        self._running.add(worker.id)
        folder = self._setup.folder
        arguments = worker_arguments(worker, self._address, folder.state)
        environment = {"MUSTER_TOKEN": self._setup.token}
        nursery.start(worker.id, "muster_cli.worker_entry:run", arguments, folder.log(worker.id), environment)

    # --- the coordinator ----------------------------------------------------------------------------------------------

    def _hear_coordinator(self, coordinator: Child) -> None:
        lines = coordinator.read_lines()
        if lines is None:
            self._coordinator = None
            self._coordinator_ended(coordinator.end(PATIENCE_S))
            return
        for line in lines:
            self._heed(json.loads(line))

    def _heed(self, event: Event) -> None:
        if event["event"] == "listening":
            first = self._address is None
            self._address = event["address"]
            if first:
                self._start_workers()
                self._bridges.start_all(int(event["address"].rpartition(":")[2]))
        elif event["event"] == "finished":
            self._finished = event
        self._tell(event)

    def _coordinator_ended(self, code: int) -> None:
        if self._finished is not None:
            self._ending = _ending_of(self._finished)
            return
        if code == FENCED or (self._address is None and code > 0):  # it would end the same way again
            self._give_up(GiveUp(COORDINATOR, code, describe_exit(code)), clients=())
            return
        self._died(COORDINATOR, code, clients=())

    # --- the nursery and its workers ----------------------------------------------------------------------------------

    def _hear_nursery(self, nursery: Nursery) -> None:
        events = nursery.read_events()
        if events is None:
            self._nursery = None
            self._running.clear()
            self._died(NURSERY, nursery.end(), clients=self._setup.plan.clients)
            return
        for event in events:
            if event["event"] == "exited":
                self._child_ended(event["id"], event["code"])

    def _child_ended(self, name: str, code: int) -> None:
        self._exit_codes[name] = code
        self._running.discard(name)
        if name in self._workers and self._finished is None:
            self._died(name, code, clients=self._workers[name].clients)

    def _died(self, process: str, code: int, clients: tuple[str, ...]) -> None:
        self._supervision, decision = note_death(self._supervision, process, code, time.monotonic())
        if isinstance(decision, GiveUp):
            self._give_up(decision, clients)
            return
        self._report(process, clients, f"{process} {decision.reason}; it is started again ({decision.attempt})")

    def _give_up(self, decision: GiveUp, clients: tuple[str, ...]) -> None:
        log = self._setup.folder.log(decision.process)
        said = last_words(log)
        self._given_up.add(decision.process)
        message = f"{decision.process} is given up ({decision.reason}); its last words: {said or 'none'}"
        self._report(decision.process, clients, message)
        if decision.code == BAD_INPUT:
            self._ending = Ending("Failed", said or message, ExitCode.BAD_INPUT)
        elif decision.process not in self._workers or self._given_up >= self._workers.keys():
            self._ending = Ending("Failed", f"{message} (see {log})", ExitCode.FAILED)

    def _report(self, process: str, clients: tuple[str, ...], message: str) -> None:
        self._tell(
            {"event": "process", "time": time.time(), "process": process, "clients": list(clients), "message": message}
        )

    def _stopped(self) -> Ending:
        return Ending("Suspended", "stopped", self._signals.exit_code)


def _ending_of(finished: Event) -> Ending:
    state = str(finished["outcome"])
    code = ExitCode.COMPLETE if state == "Complete" else ExitCode.FAILED
    return Ending(state, f"{finished['reason']}: {finished['message']}", code)
