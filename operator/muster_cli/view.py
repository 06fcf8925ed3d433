"""What a person watching a run knows of it: a fold over the run's events. Pure; `screen` and `lines` show it.

Events are the coordinator's JSON objects (docs/architecture.md lists them) and a few of the runner's own: ``run`` when
it starts or goes on, ``process`` when one died, ``baselines`` and ``done``. An event that is not known here changes
nothing: a display must never be the reason that a run ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

MESSAGES_KEPT = 4
LOG_KEPT = 5
ROUNDS_FOR_ETA = 10

Event = Mapping[str, Any]


class ClientState(Enum):
    """What one client is doing, as far as we have heard."""

    AWAITED = "awaited"
    QUEUED = "queued"
    READY = "ready"
    TRAINING = "training"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool as the job names it."""

    name: str
    type: str
    is_away: bool = False  # its workers run where they would anyway, and not here


@dataclass(frozen=True, slots=True)
class View:
    """One moment of a run. Times are Unix seconds; metrics are as the task names them."""

    job: str = ""
    folder: str = ""
    pools: tuple[PoolView, ...] = ()
    clients: Mapping[str, ClientState] = field(default_factory=dict)
    phase: str = "starting"
    total: int = 0
    committed: int = 0
    planned: int = 0
    cohort: tuple[str, ...] = ()
    deadline: float | None = None
    training: Mapping[str, float] = field(default_factory=dict)
    central: Mapping[str, float] = field(default_factory=dict)
    federated: Mapping[str, float] = field(default_factory=dict)
    measured: int | None = None
    curve: tuple[float, ...] = ()
    bytes_up: int = 0
    bytes_down: int = 0
    compression: str = ""
    bytes_saved: float | None = None  # the share that compression took away, against float32; None: not known yet
    updates: int = 0
    first_planned: float | None = None
    last_commits: tuple[float, ...] = ()
    finished: Event | None = None
    baselines: Mapping[str, float | None] = field(default_factory=dict)
    messages: tuple[str, ...] = ()
    log: tuple[str, ...] = ()  # the newest lines of workers that run elsewhere

    @property
    def accuracy(self) -> float | None:
        """Of the newest model that was measured: on the task's test set, else on the clients' own data.

        A fraction, or None when nobody has measured it.
        """
        return (self.central or self.federated).get("accuracy")

    @property
    def final_accuracy(self) -> float | None:
        """The accuracy, if it is the last model's that was measured."""
        return self.accuracy if self.measured == self.committed else None

    @property
    def loss(self) -> float | None:
        """Where it was measured best: on the test set, on the clients' held-out data, or while training."""
        return next(
            (scores["loss"] for scores in (self.central, self.federated, self.training) if "loss" in scores), None
        )

    @property
    def received(self) -> int:
        return sum(self.clients.get(client) is ClientState.DONE for client in self.cohort)

    def states_of(self, pool: str) -> Counter[ClientState]:
        return Counter(state for client, state in self.clients.items() if client.rpartition("/")[0] == pool)

    def eta_s(self, now: float) -> float | None:
        """Seconds until the last round, if the rest goes like the last few rounds."""
        if len(self.last_commits) < 2 or self.finished:
            return None
        pace = (self.last_commits[-1] - self.last_commits[0]) / (len(self.last_commits) - 1)
        return max(0.0, pace * (self.total - self.committed) - (now - self.last_commits[-1]))

    def training_s(self, now: float) -> float:
        """Seconds since the first round was planned or taken up again; up to the end once there is one."""
        if self.first_planned is None:
            return 0.0
        return (self.finished["time"] if self.finished else now) - self.first_planned


def fold(view: View, event: Event) -> View:
    """The view after one more event."""
    change = _CHANGES.get(event.get("event", ""))
    return change(view, event) if change else view


def fold_all(view: View, events: Iterable[Event]) -> View:
    """The view after these events."""
    for event in events:
        view = fold(view, event)
    return view


def _with_clients(view: View, names: Iterable[str], state: ClientState) -> dict[str, ClientState]:
    return {**view.clients, **dict.fromkeys(names, state)}


def _with_message(view: View, message: str) -> View:
    return replace(view, messages=(*view.messages, message)[-MESSAGES_KEPT:])


def _run(view: View, event: Event) -> View:
    pools = tuple(PoolView(pool["name"], pool["type"], pool.get("isAway", False)) for pool in event["pools"])
    clients = dict.fromkeys(event["clients"], ClientState.AWAITED)
    return replace(
        view,
        phase="starting",
        job=event["job"],
        folder=event["folder"],
        pools=pools,
        clients=clients,
        total=event["total"],
        cohort=(),
        deadline=None,
        first_planned=None,
        last_commits=(),
        finished=None,
        messages=(),
    )


def _listening(view: View, _event: Event) -> View:
    return replace(view, phase="waiting for clients") if view.phase == "starting" else view


def _joined(view: View, event: Event) -> View:
    busy = {ClientState.TRAINING, ClientState.DONE}
    arrived = [client for client in event["clients"] if view.clients.get(client) not in busy]
    return replace(view, clients=_with_clients(view, arrived, ClientState.READY))


def _lost(view: View, event: Event) -> View:
    return replace(view, clients=_with_clients(view, event["clients"], ClientState.LOST))


def _queued(view: View, event: Event) -> View:
    """Whoever was in a queue and is in none any more has not come yet."""
    queued = {ClientState.QUEUED: ClientState.AWAITED}
    clients = {client: queued.get(state, state) for client, state in view.clients.items()}
    return replace(view, clients={**clients, **dict.fromkeys(event["clients"], ClientState.QUEUED)})


def _slurm(view: View, event: Event) -> View:
    if event["what"] == "log":
        return replace(view, log=(*view.log, event["message"])[-LOG_KEPT:])
    return _with_message(view, event["message"])


def _planned(view: View, event: Event) -> View:
    if event.get("more"):  # of a round that is open already, and that nobody waits for
        return replace(
            view,
            cohort=(*view.cohort, *event["cohort"]),
            clients=_with_clients(view, event["cohort"], ClientState.TRAINING),
        )
    idle = {client: _at_rest(state) for client, state in view.clients.items()}
    asked = replace(view, clients=idle)
    first = view.first_planned if view.first_planned is not None else event["time"]
    return replace(
        asked,
        phase="making the first model" if event["round"] == 0 else "training",
        planned=event["round"],
        total=event["total"],
        cohort=(*event.get("working", ()), *event["cohort"]),
        deadline=event["time"] + event["deadlineSeconds"],
        clients=_with_clients(asked, [*event.get("working", ()), *event["cohort"]], ClientState.TRAINING),
        first_planned=first,
    )


def _at_rest(state: ClientState) -> ClientState:
    is_away = state in {ClientState.AWAITED, ClientState.QUEUED, ClientState.LOST}
    return state if is_away else ClientState.READY


def _received(view: View, event: Event) -> View:
    return replace(view, clients=_with_clients(view, [event["client"]], ClientState.DONE))


def _rejected(view: View, event: Event) -> View:
    failed = replace(view, clients=_with_clients(view, [event["client"]], ClientState.FAILED))
    return _with_message(failed, f"{event['client']}: {event['reason']}")


def _committed(view: View, event: Event) -> View:
    rested = {client: _at_rest(state) for client, state in view.clients.items()}
    return replace(
        view,
        clients=rested,
        committed=event["round"],
        training=event.get("metrics") or view.training,
        bytes_up=view.bytes_up + event["bytesUp"],
        bytes_down=view.bytes_down + event["bytesDown"],
        compression=event.get("compression", view.compression),
        bytes_saved=event.get("bytesSaved", view.bytes_saved),
        updates=view.updates + (event["used"] if event["round"] > 0 else 0),
        last_commits=(*view.last_commits, event["time"])[-ROUNDS_FOR_ETA:],
        deadline=None,
        phase="evaluating" if event["round"] > 0 else view.phase,
    )


def _evaluated(view: View, event: Event) -> View:
    central, federated = event.get("central"), event.get("federated")
    counts = central or ({} if view.central else federated)  # with a test set, only what is measured on it counts
    seen = replace(view, central=central or view.central, federated=federated or view.federated)
    if not counts:
        return seen
    curve = (*view.curve, counts["accuracy"]) if "accuracy" in counts else view.curve
    return replace(seen, measured=event["round"], curve=curve)


def _failed_attempt(view: View, event: Event) -> View:
    return _with_message(view, f"round {event['round']} did not succeed: {event['reason']}")


def _warning(view: View, event: Event) -> View:
    return _with_message(view, event["message"])


def _resumed(view: View, event: Event) -> View:
    resumed = replace(
        view,
        committed=max(0, event["committed"]),
        phase="waiting for clients",
        first_planned=event["time"] if view.first_planned is None else view.first_planned,
        last_commits=(),
    )
    return _with_message(resumed, f"going on with round {event['round']}")


def _process(view: View, event: Event) -> View:
    lost = replace(view, clients=_with_clients(view, event["clients"], ClientState.LOST))
    return _with_message(lost, event["message"])


def _finished(view: View, event: Event) -> View:
    """The totals of the coordinator count what an earlier runner may not have heard of."""
    return replace(
        view,
        finished=event,
        phase="finished",
        deadline=None,
        committed=event["rounds"],
        bytes_up=event["bytesUp"],
        bytes_down=event["bytesDown"],
        compression=event.get("compression", view.compression),
        bytes_saved=event.get("bytesSaved", view.bytes_saved),
    )


def _baselines(view: View, event: Event) -> View:
    scores = {name: event[name] for name in ("pooled", "localOnly") if name in event}
    return replace(view, phase=event["phase"], baselines={**view.baselines, **scores})


_CHANGES: Mapping[str, Callable[[View, Event], View]] = {
    "run": _run,
    "listening": _listening,
    "joined": _joined,
    "lost": _lost,
    "queued": _queued,
    "slurm": _slurm,
    "planned": _planned,
    "received": _received,
    "rejected": _rejected,
    "committed": _committed,
    "evaluated": _evaluated,
    "failedAttempt": _failed_attempt,
    "warning": _warning,
    "resumed": _resumed,
    "process": _process,
    "finished": _finished,
    "baselines": _baselines,
}
