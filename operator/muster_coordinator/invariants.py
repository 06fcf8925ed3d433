"""What holds in every state that the engine can be in: tests check it after each step."""

from __future__ import annotations

from collections.abc import Iterator

from muster_coordinator.state import Collecting, Committing, Evaluating, Gathering, JobState, Planning, Round


def check_invariants(state: JobState) -> None:
    """Raises AssertionError naming everything that does not hold."""
    broken = [*_of_job(state), *_of_phase(state)]
    if broken:
        raise AssertionError("; ".join(broken))


def _of_job(state: JobState) -> Iterator[str]:
    names = [update.assignment for update in state.parked]
    if len(names) != len(set(names)):
        yield "an update is parked twice"
    if not set(state.roster.workers) <= set(state.config.clients):
        yield "somebody is here whom the job does not have"
    if any(state.progress.has_used(work.client, name) for name, work in state.owed.items()):
        yield "work is owed that is used already"
    if not isinstance(state.phase, Committing) and not set(names) <= state.owed.keys():
        yield "an update is parked that nobody is owed"
    if state.config.mode and len({work.client for work in state.owed.values()}) < len(state.owed):
        yield "a client has two pieces of work at a time"
    if state.deferred and isinstance(state.phase, Collecting | Committing | Evaluating):
        yield "an attempt's failure is durable, but its clients have not been told"


def _of_phase(state: JobState) -> Iterator[str]:
    match state.phase:
        case Gathering(round=number) if number != state.progress.committed + 1:
            yield f"clients gather for round {number} after round {state.progress.committed}"
        case Collecting(round_) | Committing(round_) | Planning(within=Round() as round_):
            yield from _of_round(state, round_)
            if round_.is_rolling and not round_.late <= state.owed.keys():
                yield "something is in the sum that nobody is owed"
        case Evaluating(round=number) if number != state.progress.committed:
            yield f"round {number} is measured after round {state.progress.committed}"


def _of_round(state: JobState, round_: Round) -> Iterator[str]:
    if round_.number != state.progress.committed + 1:
        yield f"round {round_.number} is open after round {state.progress.committed}"
    if round_.plan.base != state.progress.model:
        yield "the open round does not start from the newest model"
    folded = [used.assignment for used in round_.folded]
    if len(folded) != len(set(folded)):
        yield "an update is in the sum twice"
    if not set(folded) <= round_.updates.keys() | round_.late:
        yield "something is in the sum that was not accepted"
    if isinstance(state.phase, Committing) and set(folded) != round_.updates.keys() | round_.late:
        yield "an accepted update is not in the sum of a closed round"
    if round_.updates.keys() & round_.failures.keys() or not round_.updates.keys() <= round_.places.keys():
        yield "a place has two results, or an update has no place"
    if any(state.progress.has_used(used.client, used.assignment) for used in round_.folded):
        yield "an update is in the sum that an earlier round has used"
