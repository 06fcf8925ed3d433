"""Who does how many local steps, so that clients of different speed arrive together: FedCompass's scheduler, Compass.

Li et al. 2024 (ICLR, arXiv 2309.14675), section 3. A client whose speed is known joins the group that it can be in time
for with most steps, within the least and the most; if there is none it founds one, which is to arrive when some other
group will arrive the time after next, so that the two can join there. A group is waited for up to `lateness` times as
long as expected; who comes later counts with the next group. A client of unknown speed does the least steps and counts
as soon as it comes.

The paper takes a client's time for proportional to its steps. Here the model's way down and the update's way up are
known apart from training, and only the training grows with the steps. All times are on the engine's clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from muster_coordinator.modes import Grouped
from muster_coordinator.records import Stint
from muster_spec.clients import ClientId

_SHORTEST_S, _MOST_STEPS = 1e-9, 1e9
ALONE = 0  # the group of those whose speed is not known


@dataclass(frozen=True, slots=True)
class Speed:
    """How long a client takes: for each local step, and for all else."""

    step_s: float
    rest_s: float = 0.0

    def steps_in(self, seconds: float) -> int:
        """How many steps there is time for; below 0 for none at all."""
        steps = (seconds - self.rest_s) / max(self.step_s, _SHORTEST_S)
        return math.floor(min(steps, _MOST_STEPS) + 1e-9)

    def time_of(self, steps: int) -> float:
        return self.rest_s + steps * self.step_s


@dataclass(frozen=True, slots=True)
class Group:
    """When its clients should be here, up to when they are waited for, and the fastest of them: seconds a step."""

    expected: float
    latest: float
    fastest_s: float


def group_of(stint: Stint, lateness: float, now: float, grace_s: float = 0.0) -> Group:
    """A group of one that begins now."""
    fastest = stint.arrival_s / max(stint.steps, 1)
    return Group(now + stint.arrival_s + grace_s, now + lateness * stint.arrival_s + grace_s, fastest)


def with_member(group: Group, stint: Stint) -> Group:
    """The same with one more client, whose speed may be the fastest."""
    return replace(group, fastest_s=min(group.fastest_s, stint.arrival_s / max(stint.steps, 1)))


def assign(
    speeds: Mapping[ClientId, Speed | None],
    groups: Mapping[int, Group],
    policy: Grouped,
    first: int,
    now: float,
    within_s: float = math.inf,
) -> dict[ClientId, Stint]:
    """Steps and a group for each client, the fastest first. New groups have numbers from `first` on.

    Nobody is given more steps than fit `within_s`, but for the least that there may be.
    """
    stints: dict[ClientId, Stint] = {}
    known = dict(groups)
    for client in _fastest_first(speeds):
        speed = speeds[client]
        if speed is None:
            stints[client] = Stint(steps=policy.min_steps, group=ALONE)
            continue
        own = replace(policy, max_steps=max(min(policy.max_steps, speed.steps_in(within_s)), policy.min_steps))
        stint = _joined(speed, known, own, now) or _founded(speed, known, own, first, now)
        if stint.group not in known:
            known[stint.group], first = group_of(stint, policy.lateness, now), first + 1
        known[stint.group] = with_member(known[stint.group], stint)
        stints[client] = stint
    return stints


def _fastest_first(speeds: Mapping[ClientId, Speed | None]) -> Sequence[ClientId]:
    return sorted(speeds, key=lambda client: speed.step_s if (speed := speeds[client]) else math.inf)


def _joined(speed: Speed, groups: Mapping[int, Group], policy: Grouped, now: float) -> Stint | None:
    """A place in the group for which it can do the most steps, if it can be in time for any with enough of them."""
    steps = {number: speed.steps_in(group.expected - now) for number, group in groups.items()}
    fitting = {number: count for number, count in steps.items() if policy.min_steps <= count <= policy.max_steps}
    if not fitting:
        return None
    number = max(fitting, key=lambda each: (fitting[each], -each))
    return _stint(speed, fitting[number], number)


def _founded(speed: Speed, groups: Mapping[int, Group], policy: Grouped, number: int, now: float) -> Stint:
    """A group of its own, to arrive when another will after its next turn; with the most steps where none fits."""
    turns = (group.latest + group.fastest_s * policy.max_steps for group in groups.values() if now < group.latest)
    steps = [count for turn in turns if (count := speed.steps_in(turn - now)) <= policy.max_steps]
    wanted = max(steps) if steps else policy.max_steps
    return _stint(speed, max(wanted, policy.min_steps), number)


def _stint(speed: Speed, steps: int, group: int) -> Stint:
    return Stint(steps=steps, group=group, arrival_s=round(speed.time_of(steps), 3))
