"""The figures of a simulation, and the page that shows them to people. Pure; every time in it is simulated time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table

from muster_cli.simulation.fleet import Nature
from muster_cli.simulation.results import History, Line, Measured

CLOCK = "simulated time"


def summarise(history: History, fleet: Sequence[Nature]) -> dict[str, Any]:
    """The closing line. Durations in seconds of simulated time; round 0, which makes the first model, is left out."""
    rounds = [line for line in history.rounds if line.round]
    return {
        "clock": CLOCK,
        "outcome": history.finished.get("outcome"),
        "reason": history.finished.get("reason"),
        "rounds": len(rounds),
        "failedAttempts": history.failed_attempts,
        "simulatedSeconds": rounds[-1].ended if rounds else None,
        "roundSeconds": spread([line.seconds for line in rounds]),
        "updatesPerRound": mean([float(len(line.used)) for line in rounds]),
        "bytesUp": sum(line.bytes_up for line in rounds),
        "bytesDown": sum(line.bytes_down for line in rounds),
        "tiers": tiers(rounds, fleet),
        "participation": participation(rounds, fleet),
        "measured": [
            {"round": each.round, "simulatedSeconds": each.at, "metrics": dict(each.metrics)}
            for each in history.measured
        ],
    }


def mean(values: Sequence[float]) -> float | None:
    """None of nothing."""
    return math.fsum(values) / len(values) if values else None


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """The mean, the median, and the value that one in twenty exceeds."""
    if not values:
        return None
    ordered = sorted(values)
    return {
        "mean": math.fsum(values) / len(values),
        "median": ordered[(len(ordered) - 1) // 2],
        "p95": ordered[math.ceil(0.95 * len(ordered)) - 1],
        "max": ordered[-1],
    }


def tiers(rounds: Sequence[Line], fleet: Sequence[Nature]) -> dict[str, dict[str, Any]]:
    """Of each tier: its clients, its updates, and how large a part of all updates those are."""
    tier_of = {nature.client: nature.tier for nature in fleet}
    clients = Counter(nature.tier for nature in fleet)
    updates = Counter(tier_of[client] for line in rounds for client in line.used)
    total = updates.total()
    return {
        tier: {"clients": many, "updates": updates[tier], "share": updates[tier] / total if total else None}
        for tier, many in sorted(clients.items())
    }


def participation(rounds: Sequence[Line], fleet: Sequence[Nature]) -> dict[str, Any]:
    """How many rounds each client took part in, and how evenly (Jain's index: 1 is all alike, 1/n one alone)."""
    updates = Counter(client for line in rounds for client in line.used)
    counts = [updates[nature.client] for nature in fleet]
    squares = sum(count * count for count in counts)
    return {
        "tookPart": sum(count > 0 for count in counts),
        "least": min(counts, default=0),
        "most": max(counts, default=0),
        "fairness": sum(counts) ** 2 / (len(counts) * squares) if squares else None,
        "rounds": {nature.client: updates[nature.client] for nature in fleet},
    }


def time_to(measured: Sequence[Measured], metric: str, value: float) -> float | None:
    """When a metric was first as high as this, in seconds of simulated time."""
    return next((each.at for each in measured if each.metrics.get(metric, -math.inf) >= value), None)


def page(about: Mapping[str, object], summary: Mapping[str, Any], history: History) -> str:
    """The report: what was simulated, rounds, tiers, and how good the model was when."""
    out = StringIO()
    console = Console(file=out, width=110, highlight=False, markup=False)
    console.print(f"Simulation of {about['job']}: {about['fleet']}")
    console.print("Every time below is simulated time; nothing of it was measured on a clock.\n")
    rounds = summary["roundSeconds"]
    if rounds:
        console.print(
            f"{summary['rounds']} rounds in {summary['simulatedSeconds']:.1f} s of simulated time: a round takes "
            f"{rounds['mean']:.2f} s in the mean, {rounds['median']:.2f} s in the median, {rounds['p95']:.2f} s at p95"
        )
    console.print(f"{summary['outcome']} ({summary['reason']}), {summary['failedAttempts']} failed attempts")
    part = summary["participation"]
    console.print(
        f"{part['tookPart']} of {len(part['rounds'])} clients took part, {part['least']} to {part['most']} times\n"
    )
    console.print(_tiers(summary["tiers"]))
    if history.measured:
        console.print(_measured(history.measured))
    return out.getvalue()


def _tiers(found: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table("tier", "clients", "updates", "share of updates", title="Who took part (simulated)")
    for name, tier in found.items():
        share = "" if tier["share"] is None else f"{100 * tier['share']:.1f} %"
        table.add_row(name, str(tier["clients"]), str(tier["updates"]), share)
    return table


def _measured(measured: Sequence[Measured]) -> Table:
    names = sorted({name for each in measured for name in each.metrics})
    table = Table("round", "s of simulated time", *names, title="The model against simulated time")
    for each in measured:
        shown = (f"{each.metrics[name]:.4f}" if name in each.metrics else "" for name in names)
        table.add_row(str(each.round), f"{each.at:.1f}", *shown)
    return table
