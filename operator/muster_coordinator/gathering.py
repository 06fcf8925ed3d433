"""When enough clients are here to plan a round, and which of them it may ask.

Before its first round the coordinator is patient: workers start at different speeds, and a federation that begins with
everybody repeats exactly. Later it goes on with whoever is here, down to the minimum that a round needs.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from muster_coordinator.assignments import training_id, training_seed
from muster_coordinator.config import GRACE_S, LONGEST_GRACE_S, EngineConfig
from muster_coordinator.histories import Histories, Table, blank
from muster_coordinator.instructions import Reason
from muster_coordinator.records import PlannedClient, RoundPlan, Uplink
from muster_coordinator.rounds import Fail, Wait
from muster_coordinator.selection import Choice, Request
from muster_coordinator.sparsity import uplink_of
from muster_coordinator.state import Gathering, JobState, Roster
from muster_coordinator.uplink import choose_uplink
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
    here: Sequence[ClientId] = [
        client
        for client in config.clients
        if client in roster and (config.candidates is None or client in config.candidates)
    ]
    if config.exclusion is not None:
        here = config.exclusion.admitted(here, _rows(state, here), state.progress.committed + 1, config.minimum)
    busy = {work.client for work in state.owed.values()} - {update.client for update in state.parked}
    idle = tuple(client for client in here if client not in busy)
    return idle if len(idle) >= config.minimum else tuple(here)


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


def _rows(state: JobState, clients: Sequence[ClientId]) -> Table:
    histories = known(state)
    if not len(histories.table):
        return blank(len(clients))
    places = [state.config.ordinals[client] for client in clients]
    rows: Table = histories.table[places]
    return rows


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


# --- plans ------------------------------------------------------------------------------------------------------------


def build_plan(state: JobState, gathering: Gathering, ready: Ready) -> RoundPlan:
    """Whom to ask for what in this attempt."""
    if gathering.round == 0:
        choice = Choice(ready.eligible[0], "first model: a client of a trusted pool")
        return _plan(state, gathering, (choice,), close_at=1)
    config = state.config
    request = Request(
        config.seed, gathering.round, gathering.attempt, config.asked, ready.eligible, known(state), config.ordinals
    )
    choices = config.selector(request)
    close_at = min(config.min_updates or config.cohort, len(choices))
    return _plan(state, gathering, choices, close_at=max(close_at, config.least))


def _plan(state: JobState, gathering: Gathering, choices: tuple[Choice, ...], close_at: int) -> RoundPlan:
    config = state.config
    return RoundPlan(
        round=gathering.round,
        attempt=gathering.attempt,
        base=state.progress.model,
        cohort=tuple(_planned(state, gathering, choice) for choice in choices),
        close_at=close_at,
        minimum=min(config.minimum, close_at),
        deadline_s=config.deadline_s,
        epoch=config.epoch,
        absences=state.absences,
    )


def _planned(state: JobState, gathering: Gathering, choice: Choice) -> PlannedClient:
    number, config = gathering.round, state.config
    seed = training_seed(config.seed, config.ordinals[choice.client], number) if number else config.seed
    assignment = training_id(number, gathering.attempt, choice.client)
    planned = PlannedClient(client=choice.client, assignment=assignment, seed=seed, reason=choice.reason)
    if not number:
        return planned
    if config.is_auto:
        chosen = choose_uplink(state.lines.get(choice.client))
        uplink, how = Uplink(preset=chosen.preset), f"up by {chosen.reason}"
    elif search := state.progress.search or config.search:
        uplink, how = uplink_of(search), f"up goes {100 * search.share:.3g} % of the values"
    else:
        return planned
    return msgspec.structs.replace(planned, uplink=uplink, reason=f"{choice.reason}; {how}")
