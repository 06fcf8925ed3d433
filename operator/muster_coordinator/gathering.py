"""When enough clients are here to plan a round, and which of them it may ask.

Before its first round the coordinator is patient: workers start at different speeds, and a federation that begins with
everybody repeats exactly. Later it goes on with whoever is here, down to the minimum that a round needs.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass

from muster_coordinator.config import GRACE_S, LONGEST_GRACE_S, EngineConfig
from muster_coordinator.histories import Histories
from muster_coordinator.instructions import Reason
from muster_coordinator.rounds import Fail, Wait
from muster_coordinator.state import Gathering, JobState, Roster
from muster_spec.clients import ClientId

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
    config, roster = state.config, state.roster
    here = _present(config, roster)
    if here >= config.minimum and now >= grace_end(gathering, config, roster):
        return Ready(eligible_clients(state))
    wanted = "clients" if config.candidates is None else f"clients ({len(config.candidates)} have the labels)"
    missing = f"{here} of at least {config.minimum} {wanted} are here: {_census(config, roster)}"
    if now >= gathering.since + config.wait_for_clients_s and here < config.minimum:
        return Fail(Reason.NO_CLIENTS, f"{missing}; waited {now - gathering.since:.0f} s")
    return Wait(missing)


def grace_end(gathering: Gathering, config: EngineConfig, roster: Roster) -> float:
    """When a patient coordinator stops hoping for more clients."""
    if not gathering.patient or len(roster) == len(config.clients):
        return gathering.since
    last, first = (joined or gathering.since for joined in (roster.last_join, roster.first_join))
    return min(max(last, gathering.since) + GRACE_S, max(first, gathering.since) + LONGEST_GRACE_S)


def next_look(gathering: Gathering, config: EngineConfig, roster: Roster) -> float:
    """When the decision may change though nothing happens."""
    if gathering.round == 0:
        grace = gathering.since + LONGEST_GRACE_S
        return grace if gathering.attempt and len(roster) else gathering.since + config.wait_for_clients_s
    if _present(config, roster) >= config.minimum:
        return grace_end(gathering, config, roster)
    return gathering.since + config.wait_for_clients_s


def eligible_clients(state: JobState) -> tuple[ClientId, ...]:
    """Who may be asked: whoever is here, and rather not those that are left out, or still busy with late work."""
    config, roster = state.config, state.roster
    here = tuple(client for client in config.candidates_in_order if client in roster.workers)
    if config.exclusion is not None:
        rows = known(state).rows_of(here, config.ordinals)
        here = config.exclusion.admitted(here, rows, state.progress.committed + 1, config.minimum)
    busy = {work.client for work in state.owed.values()} - {update.client for update in state.parked}
    idle = tuple(client for client in here if client not in busy) if busy else here
    return idle if len(idle) >= config.minimum else here


def left_out(state: JobState) -> dict[ClientId, int]:
    """Clients that sit this round out, and the last round for which they do."""
    exclusion, number = state.config.exclusion, state.progress.committed + 1
    if exclusion is None or not len(state.progress.histories.table):
        return {}
    until = exclusion.until(known(state).table).tolist()
    return {client: last for client, last in zip(state.config.clients, until, strict=True) if last >= number}


def known(state: JobState) -> Histories:
    """What is known of all clients now, with who was missing from attempts at the open round that failed."""
    return state.progress.histories.with_absences(state.absences, state.config.ordinals)


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
    if now >= gathering.since + config.wait_for_clients_s:
        return Fail(
            Reason.NO_CLIENTS, f"no trusted client is here to make the first model: {_census(config, state.roster)}"
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


def _census(config: EngineConfig, roster: Roster) -> str:
    there = Counter(client.rpartition("/")[0] for client in roster.workers)
    return ", ".join(f"{pool.name} {there[pool.name]} of {pool.clients}" for pool in config.pools)
