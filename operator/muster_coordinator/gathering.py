"""When enough clients are here to plan a round, and which of them it may ask.

Before its first round the coordinator is patient: workers start at different speeds, and a federation that begins with
everybody repeats exactly. Later it goes on with whoever is here, down to the minimum that a round needs. Where a batch
system says who is about to come out of its queue, those are hoped for, too; and whoever would be sent away before a
round is over isn't asked.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from muster_coordinator.allocations import next_start
from muster_coordinator.config import GRACE_S, LONGEST_GRACE_S, EngineConfig
from muster_coordinator.histories import Histories
from muster_coordinator.instructions import Reason
from muster_coordinator.matching.phases import passes_after
from muster_coordinator.rounds import Fail, Wait
from muster_coordinator.state import Gathering, JobState, Roster
from muster_spec.clients import ClientId
from muster_spec.wording import counted, seconds

FIRST_MODEL_TRIES = 10  # whatever maxFailedRounds says: another client may well be able to build the model


@dataclass(frozen=True, slots=True)
class Ready:
    """These may be asked, in the order of their ordinals (of preference, for the first model)."""

    eligible: tuple[ClientId, ...]


Gathered = Ready | Wait | Fail


def decide_gathering(state: JobState, gathering: Gathering, now: float) -> Gathered:
    """Whether to plan now."""
    if gathering.round == 0:
        return _gather_for_first_model(state, gathering, now)
    config = state.config
    here = count_available(state, now)
    if here >= config.minimum and now >= grace_end(gathering, config, state.roster, here):
        return Ready(eligible_clients(state, now))
    missing = _missing(state, here, now)
    if now >= patience_end(gathering.since, config, state.roster) and here < config.minimum:
        return Fail(Reason.NO_CLIENTS, f"{missing}; waited {now - gathering.since:.0f} s")
    return Wait(missing)


def _missing(state: JobState, here: int, now: float) -> str:
    """Who is not here, in words, and who else is there."""
    config, roster = state.config, state.roster
    wanted = "clients" if config.candidates is None else f"clients ({len(config.candidates)} have the labels)"
    leaving = _present(config, roster) - here
    soon = f"; {counted(leaving, 'client')} would have to leave before a round is over" if leaving else ""
    return f"{here} of at least {config.minimum} {wanted} are here: {_census(config, roster, now)}{soon}"


def grace_end(gathering: Gathering, config: EngineConfig, roster: Roster, here: int) -> float:
    """When a coordinator stops hoping for more clients than are here."""
    hoped = _hope_end(gathering, config, roster) if here < config.asked else gathering.since
    if not gathering.patient or len(roster) == len(config.clients):
        return hoped
    last, first = (joined or gathering.since for joined in (roster.last_join, roster.first_join))
    grace = min(max(last, gathering.since) + GRACE_S, max(first, gathering.since) + LONGEST_GRACE_S)
    return max(grace, hoped)


def _hope_end(gathering: Gathering, config: EngineConfig, roster: Roster) -> float:
    """When those should be here that are about to come out of a queue: within a minute, and within a round's time."""
    limit = gathering.since + min(LONGEST_GRACE_S, config.deadline_s)
    starts = (each.starts for _, each in roster.queues.waiting(roster.workers) if each.starts is not None)
    near = [start + GRACE_S for start in starts if start <= limit]
    return min(max(near), limit) if near else gathering.since


def patience_end(since: float, config: EngineConfig, roster: Roster) -> float:
    """When a job without enough clients has waited long enough. Unless somebody has said for how long that is, a queue
    may be longer: while it is known that clients wait in one, so does the job.
    """
    end, queues = since + config.wait_for_clients_s, roster.queues
    is_moved = config.waits_for_queues and any(queues.waiting(roster.workers))
    return max(end, queues.stale_at or end) if is_moved else end


def next_look(state: JobState, gathering: Gathering, now: float) -> float:
    """When the decision may change though nothing happens."""
    config, roster = state.config, state.roster
    end = patience_end(gathering.since, config, roster)
    if gathering.round == 0:
        return gathering.since + LONGEST_GRACE_S if gathering.attempt and len(roster) else end
    here = count_available(state, now)
    return grace_end(gathering, config, roster, here) if here >= config.minimum else end


def available(state: JobState, now: float) -> tuple[ClientId, ...]:
    """Who is here that may be asked to train, and won't be sent away by a batch system before a round is over."""
    config, roster = state.config, state.roster
    bound = in_pass(state)
    asked = config.candidates_in_order if bound is None else tuple(c for c in config.clients if c in bound)
    here = tuple(client for client in asked if client in roster.workers)
    allocations, table = roster.queues.allocations, state.progress.histories.table
    if not allocations:
        return here
    paces = table["elapsed_s"] if len(table) else itertools.repeat(math.nan)
    usual_s = dict(zip(config.clients, paces, strict=False))
    return tuple(
        client
        for client in here
        if client not in allocations or allocations[client].has_time_for(float(usual_s[client]), config.deadline_s, now)
    )


def count_available(state: JobState, now: float) -> int:
    """How many those are. Asked at every event: where no batch system has a say, nobody is looked at one by one."""
    if not state.roster.queues.allocations and in_pass(state) is None:
        return _present(state.config, state.roster)
    return len(available(state, now))


def eligible_clients(state: JobState, now: float) -> tuple[ClientId, ...]:
    """Who may be asked: whoever is available, and rather not those that are left out, or still busy with late work."""
    config, here = state.config, admitted(state, now)
    if in_pass(state) is not None:
        return here
    busy = {work.client for work in state.owed.values()} - {update.client for update in state.parked}
    idle = tuple(client for client in here if client not in busy) if busy else here
    return idle if len(idle) >= config.minimum else here


def admitted(state: JobState, now: float) -> tuple[ClientId, ...]:
    """Who is available and not left out, busy or not."""
    config, here = state.config, available(state, now)
    if config.exclusion is None or in_pass(state) is not None:
        return here
    rows = known(state).rows_of(here, config.ordinals)
    return config.exclusion.admitted(here, rows, state.progress.committed + 1, config.minimum)


def in_pass(state: JobState) -> Collection[ClientId] | None:
    """Who alone can go on with the pass that is under way, where layers are matched; None between two passes."""
    last, widths = state.progress.last, state.progress.widths
    if not widths or last is None or passes_after(last.round, widths) is not None:
        return None
    return last.matches


def left_out(state: JobState) -> dict[ClientId, int]:
    """Clients that sit this round out, and the last round for which they do."""
    exclusion, number = state.config.exclusion, state.progress.committed + 1
    if exclusion is None or not len(state.progress.histories.table):
        return {}
    until = exclusion.until(known(state).table).tolist()
    return {client: last for client, last in zip(state.config.clients, until, strict=True) if last >= number}


def known(state: JobState) -> Histories:
    """What is known of all clients now, with what workers have measured since the last round, and with who was missing
    from attempts at the open round that failed.
    """
    histories = state.progress.histories.with_profiles(state.profiled, state.config.ordinals)
    return histories.with_absences(state.absences, state.config.ordinals)


def _present(config: EngineConfig, roster: Roster) -> int:
    """How many are here that may be asked to train."""
    return len(roster) if config.candidates is None else len(config.candidates & roster.workers.keys())


def _gather_for_first_model(state: JobState, gathering: Gathering, now: float) -> Gathered:
    config, asked = state.config, state.initialisers
    if not config.trusted:
        return Fail(Reason.NO_FIRST_MODEL, "no pool of this job is trusted: mark one, or give task.initialModel a file")
    here = (client for client in config.clients if client in state.roster and config.is_trusted(client))
    fresh = tuple(itertools.islice((client for client in here if client not in asked), 1))
    if gathering.attempt >= max(config.max_failed, FIRST_MODEL_TRIES):
        return Fail(Reason.NO_FIRST_MODEL, f"{gathering.attempt} attempts: {gathering.because}")
    if fresh:
        return Ready(fresh)
    if now >= patience_end(gathering.since, config, state.roster):
        return Fail(
            Reason.NO_CLIENTS,
            f"no trusted client is here to make the first model: {_census(config, state.roster, now)}",
        )
    return _ask_again(state, gathering, now)


def _ask_again(state: JobState, gathering: Gathering, now: float) -> Gathered:
    """Every trusted client here has been asked before; the others get a moment to come."""
    config, asked = state.config, state.initialisers
    trusted = sum(pool.clients for pool in config.pools if pool.trusted)
    if gathering.attempt == 0 or (len(asked) < trusted and now < gathering.since + LONGEST_GRACE_S):
        return Wait("a trusted client has to make the first model")
    if gathering.attempt >= config.max_failed:
        return Fail(Reason.NO_FIRST_MODEL, f"{gathering.attempt} attempts: {gathering.because}")
    here = tuple(client for client in asked if client in state.roster)
    return Ready(here) if here else Wait("a trusted client has to make the first model")


def _census(config: EngineConfig, roster: Roster, now: float) -> str:
    there = Counter(client.rpartition("/")[0] for client in roster.workers)
    return ", ".join(
        f"{pool.name} {there[pool.name]} of {pool.clients}{_queue(roster, pool.name, now)}" for pool in config.pools
    )


def _queue(roster: Roster, pool: str, now: float) -> str:
    """Who of a pool waits in a queue, in words."""
    waiting = [each for each in roster.queues.waiting(roster.workers) if each[0].rpartition("/")[0] == pool]
    if not waiting:
        return ""
    start = next_start(waiting)
    when = "" if start is None else f", the first for about {seconds(max(start - now, 0.0))} more"
    return f" ({len(waiting)} in a queue{when})"
