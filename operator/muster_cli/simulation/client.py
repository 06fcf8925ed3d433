"""One simulated client: the worker's own loop and memory, asked for one action at a time, and the time each one takes.

A training is done at once, when it begins, and the client is then busy for as long as it would have taken; what it made
is nobody's before that. If it is withdrawn meanwhile, or the client disappears, it is undone as if it had never been.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from muster.client_state import MemoryBook
from muster.courier import backoff_s
from muster.desk import Desk
from muster.errors import ConnectionBrokenError
from muster.leases import Leases
from muster.loop import Loop, Shop
from muster.orders import Orders, Train
from muster.reconcile import Leave, Offer, Settle, Wait, Work
from muster.task import Client
from muster.witness import Nobody
from muster_cli.simulation.bench import Bench
from muster_cli.simulation.fleet import Nature, Presence
from muster_cli.simulation.line import SimulatedLine
from muster_cli.simulation.office import Office
from muster_cli.simulation.world import World
from muster_coordinator.sessions import Patience


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all clients of a simulation share. `answer_s` is what the coordinator takes to say something."""

    world: World
    office: Office
    bench: Bench
    shop: Shop
    answer_s: float


@dataclass(frozen=True, slots=True)
class Busy:
    """With what, and until when nothing else can be begun. `is_training`: what it makes is not there yet."""

    assignment: str
    is_training: bool = False


class SimulatedClient:
    """One data holder and the worker that acts for it, as long as there is one."""

    def __init__(self, client: Client, nature: Nature, around: Surroundings, *, keeps_state: bool) -> None:
        self.nature = nature
        self._client = client
        self._around = around
        self._keeps_state = keeps_state
        self._presence = Presence(nature)
        self._line = SimulatedLine(nature, around.office, around.bench, self._later)
        self._book = MemoryBook()
        self._desk = Desk()
        self._loop: Loop | None = None
        self._worker = 0  # how many there have been
        self._busy: Busy | None = None
        self._sent = ""  # the update whose bytes have all gone up
        self.absences = 0

    def begin(self) -> None:
        """From the beginning of time."""
        self._around.world.after(self._presence.first_absence_s(), self._come)

    def hear(self) -> None:
        """Its orders have changed; it reads them when they have come to it."""
        if self._loop is not None:
            self._later(self._around.world.now() + self._around.answer_s + self.nature.round_trip_s / 2, self._read)

    # --- coming and going ---------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return f"{self.nature.client}~{self._worker}"

    def _come(self) -> None:
        around = self._around
        self._worker += 1
        leases = Leases({self.nature.client: self._client})
        shop = around.shop
        self._desk = Desk()
        self._loop = Loop(self._desk, self._line, shop, self._book, leases, Nobody(), around.bench.now)
        stay_s, away_s = self._presence.stay()
        if math.isfinite(stay_s):
            self._later(around.world.now() + stay_s, lambda: self._go(away_s))
        around.office.join(self._name, self.nature.client, self._book.held(), self.nature.tier)
        around.office.profile(self._name, self.nature)
        self.hear()

    def _go(self, away_s: float) -> None:
        """Its worker ends; the coordinator notices in a while, and another one comes."""
        around, worker = self._around, self._name
        self._undo()
        self._loop, self._busy, self._sent = None, None, ""
        self.absences += 1
        if not self._keeps_state:
            self._book = MemoryBook()
        silence_s = Patience().broken_s
        if away_s > silence_s:
            around.world.after(silence_s, lambda: around.office.lose(worker, self.nature.client, "its worker is gone"))
        around.world.after(away_s, self._come)

    def _later(self, when: float, deed: Callable[[], None]) -> None:
        """Do this then, if this worker is still there."""
        worker = self._worker

        def if_still_there() -> None:
            if self._loop is not None and self._worker == worker:
                deed()

        self._around.world.at(when, if_still_there)

    # --- working ------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """News: stop what is no longer wanted, and go on if there is nothing else to do."""
        busy = self._busy
        if busy is not None and busy.is_training and not self._orders().wants(busy.assignment):
            self._undo()
            self._busy = None
        if self._busy is None:
            self._go_on()

    def _undo(self) -> None:
        """A training that is not over yet has made nothing."""
        busy = self._busy
        if busy is not None and busy.is_training and busy.assignment in self._book.held():
            self._book.settle(busy.assignment, used=False)

    def _orders(self) -> Orders:
        return self._around.office.orders(self.nature.client)

    def _go_on(self) -> None:
        """One action after the other, until one takes time or there is none."""
        while self._loop is not None and self._busy is None:
            orders = self._orders()
            self._desk.post(orders, self._worker)  # where a training looks whether it is still wanted
            action = self._loop.decide(orders, self._worker)
            match action:
                case Wait() | Leave():
                    return
                case Settle():
                    self._loop.act(action, orders)
                case Offer(assignment) if self._sent == assignment.id:
                    self._sent = ""
                    self._loop.act(action, orders)
                case Offer(assignment):
                    self._send(assignment.id)
                case Work():
                    self._work(self._loop, action, orders)

    def _send(self, assignment: str) -> None:
        """An update's bytes go up; it is offered once they have."""
        size = len(self._book.find(assignment).payload)

        def sent() -> None:
            self._sent = assignment

        self._be_busy(Busy(assignment), self._line.upload_s(size), sent)

    def _work(self, loop: Loop, action: Work, orders: Orders) -> None:
        assignment, bench = action.assignment, self._around.bench
        is_training = isinstance(assignment.work, Train)
        bench.begin(self.nature.step_s * (self.nature.pace(assignment.id) if is_training else 1.0))
        try:
            loop.act(action, orders)
        except ConnectionBrokenError:
            bench.spend(backoff_s(1, 1.0))
        took_s = bench.end()
        self._be_busy(Busy(assignment.id, is_training), took_s)
        part = self.nature.drops_out_at(assignment.id) if is_training else None
        if part is not None:
            self._later(self._around.world.now() + part * took_s, lambda: self._go(self.nature.machine.away_seconds))

    def _be_busy(self, busy: Busy, seconds: float, then: Callable[[], None] = lambda: None) -> None:
        """Nothing else for so long; then on."""
        self._busy = busy

        def end() -> None:
            if self._busy is busy:
                self._busy = None
                then()
                self._go_on()

        self._later(self._around.world.now() + seconds, end)
