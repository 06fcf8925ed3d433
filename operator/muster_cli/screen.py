"""A run on a terminal: one panel, drawn anew from the view several times a second. Pure, like `view` itself."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from muster_cli.lines import duration, percent, size
from muster_cli.view import ClientState, View

SPARKS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 40
BASELINES = {"pooled": "pooled data (one machine has it all)", "localOnly": "local only (nobody shares)"}
STYLES = {
    ClientState.AWAITED: "dim",
    ClientState.QUEUED: "magenta",
    ClientState.READY: "",
    ClientState.TRAINING: "cyan",
    ClientState.DONE: "green",
    ClientState.FAILED: "red",
    ClientState.LOST: "yellow",
}


def render(view: View, now: float) -> RenderableType:
    """The picture of one moment."""
    parts: list[RenderableType] = [_progress(view, now), Text(), _pools(view), Text(), _figures(view, now)]
    parts += [Text(message, style="yellow", overflow="ellipsis", no_wrap=True) for message in view.messages]
    parts += [Text(line, style="dim", overflow="ellipsis", no_wrap=True) for line in view.log]
    return Panel(Group(*parts), title=f"[bold]{view.job}[/] · {view.phase}", subtitle=view.folder, border_style="blue")


def _progress(view: View, now: float) -> RenderableType:
    row = Table.grid(padding=(0, 2))
    left = None if view.deadline is None else max(0.0, view.deadline - now)
    waiting = "" if view.deadline is None else f"{view.received}/{len(view.cohort)} updates"
    row.add_row(
        f"round [bold]{view.committed}[/]/{view.total}",
        ProgressBar(total=max(1, view.total), completed=view.committed, width=30),
        waiting,
        f"deadline {duration(left)}",
        f"ETA {duration(view.eta_s(now))}",
    )
    return row


def _pools(view: View) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for pool in view.pools:
        states = view.states_of(pool.name)
        counts = Text("  ").join(
            Text(f"{states[state]} {state.value}", style=STYLES[state]) for state in ClientState if states[state]
        )
        table.add_row(
            Text(pool.name, style="bold"),
            Text(pool.type if pool.is_away else f"{pool.type}, here as local processes", style="dim"),
            counts,
        )
    return table


def _figures(view: View, now: float) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    loss = "–" if view.loss is None else f"{view.loss:.4f}"
    table.add_row(
        f"loss {loss}", f"accuracy [bold]{percent(view.accuracy)}[/]", Text(sparkline(view.curve), style="green")
    )
    table.add_row(
        f"up {size(view.bytes_up)}", f"down {size(view.bytes_down)}", f"time {duration(view.training_s(now))}"
    )
    return table


def sparkline(curve: tuple[float, ...]) -> str:
    """The last values as little bars between the lowest and the highest."""
    shown = curve[-CURVE_WIDTH:]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    steps = len(SPARKS) - 1
    return "".join(SPARKS[round(steps * (value - low) / (high - low)) if high > low else steps] for value in shown)


def result_table(view: View) -> RenderableType:
    """The federated result beside what pooling the data, and not sharing at all, would have given."""
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("")
    table.add_column("test accuracy", justify="right")
    table.add_row("federated", percent(view.final_accuracy), style="bold")
    for name, words in BASELINES.items():
        if name in view.baselines:
            table.add_row(words, percent(view.baselines[name]))
    return table
