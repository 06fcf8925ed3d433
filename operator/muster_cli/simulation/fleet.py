"""Which client has which machine, and what befalls it when: by lot, from the seed alone.

Lots are drawn by name (this client, this training), never in the order in which things happen to happen. So two runs
of one seed that differ in a policy have the same clients with the same luck: their difference is the policy's.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from muster_cli.simulation.profile import Machine, Profile, Tier
from muster_spec.clients import ClientId


@dataclass(frozen=True, slots=True)
class Nature:
    """One client's machine and line."""

    client: ClientId
    tier: str
    step_s: float
    down_bytes_s: float
    up_bytes_s: float
    round_trip_s: float
    machine: Machine
    seed: int

    def pace(self, assignment: str) -> float:
        """How much longer this training takes than usual."""
        return _factor(self._lots("pace", assignment), self.machine.jitter)

    def drops_out_at(self, assignment: str) -> float | None:
        """The part of this training after which the client disappears; None: it does not."""
        lots = self._lots("dropout", assignment)
        return lots.random() if lots.random() < self.machine.dropout else None

    def _lots(self, *names: str) -> random.Random:
        return random.Random("/".join((str(self.seed), self.client, *names)))


@dataclass(slots=True)
class Presence:
    """When one client is there: stretches that follow one another."""

    nature: Nature
    _lots: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._lots = random.Random(f"{self.nature.seed}/{self.nature.client}/presence")

    def first_absence_s(self) -> float:
        """How long it is away at the beginning; 0: it is there."""
        machine = self.nature.machine
        if machine.on_seconds is None or machine.off_seconds is None:
            return 0.0
        is_off = self._lots.random() < machine.off_seconds / (machine.on_seconds + machine.off_seconds)
        return self._exponential(machine.off_seconds) if is_off else 0.0

    def stay(self) -> tuple[float, float]:
        """How long it stays from now, and how long it is away then. For good: infinity."""
        machine = self.nature.machine
        off_after = self._exponential(machine.on_seconds) if machine.on_seconds else math.inf
        rate = machine.preemptions_per_hour
        preempted_after = self._exponential(3600 / rate) if rate else math.inf
        off = self._exponential(machine.off_seconds) if machine.off_seconds else math.inf
        if off_after <= preempted_after:
            return off_after, off
        return preempted_after, machine.away_seconds

    def _exponential(self, mean: float) -> float:
        return self._lots.expovariate(1 / mean)


def build_fleet(profile: Profile, clients: Sequence[ClientId], seed: int) -> tuple[Nature, ...]:
    """Each client's nature, in the clients' order. A table with fewer lines than clients begins again."""
    if profile.machines:
        machines: list[Machine] = [profile.machines[place % len(profile.machines)] for place in range(len(clients))]
    else:
        machines = _in_shares(profile.tiers, len(clients))
        if not profile.in_order:
            random.Random(f"{seed}/tiers").shuffle(machines)
    return tuple(_nature(profile, client, machine, seed) for client, machine in zip(clients, machines, strict=True))


def _in_shares(tiers: Sequence[Tier], count: int) -> list[Machine]:
    """Each tier its share, as nearly as whole clients allow, one tier after the other."""
    total = sum(tier.share for tier in tiers)
    exact = [count * tier.share / total for tier in tiers]
    counts = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(tiers)), key=lambda place: (counts[place] - exact[place], place))
    for place in by_remainder[: count - sum(counts)]:
        counts[place] += 1
    return [tier for tier, many in zip(tiers, counts, strict=True) for _ in range(many)]


def _nature(profile: Profile, client: ClientId, machine: Machine, seed: int) -> Nature:
    lots = random.Random(f"{seed}/{client}/nature")
    speed, down, up = (_factor(lots, machine.spread) for _ in range(3))
    return Nature(
        client=client,
        tier=machine.tier,
        step_s=profile.seconds_per_step / (machine.speed * speed),
        down_bytes_s=machine.down_mbit * down * 1e6 / 8,
        up_bytes_s=machine.up_mbit * up * 1e6 / 8,
        round_trip_s=machine.round_trip_ms / 1000,
        machine=machine,
        seed=seed,
    )


def _factor(lots: random.Random, sigma: float) -> float:
    """A log-normal factor whose median is 1."""
    return math.exp(lots.gauss(0.0, sigma)) if sigma else 1.0
