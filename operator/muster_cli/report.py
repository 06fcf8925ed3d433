"""How a run went: the closing event for machines, the last lines for people. Pure."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from muster_cli.errors import CommandError, ExitCode
from muster_cli.folder import RunFolder
from muster_cli.lines import duration, size
from muster_cli.screen import result_table
from muster_cli.session import Ending
from muster_cli.view import Event, View
from muster_spec.wording import counted

LEAST_SAVED = 0.005  # frames and headers are no compression, and neither is what rounds to nothing


def done_event(view: View, ending: Ending, now: float, began: float) -> Event:
    """The last event of every run. `seconds` is the training part: from the first plan to the end of the last round."""
    return {
        "event": "done",
        "time": now,
        "state": ending.state,
        "message": ending.message,
        "rounds": view.committed,
        "accuracy": view.final_accuracy,
        "baselines": {name: view.baselines.get(name) for name in ("pooled", "localOnly")},
        "bytesUp": view.bytes_up,
        "bytesDown": view.bytes_down,
        "compression": view.compression,
        "bytesSaved": view.bytes_saved,
        "seconds": round(view.training_s(now), 3),
        "totalSeconds": round(now - began, 3),
        "folder": view.folder,
    }


def refused_event(error: CommandError, now: float, began: float) -> Event:
    """The last event where nothing could be started: machines get the same fields whatever happens."""
    return done_event(View(), Ending("Failed", str(error), error.exit_code), now, began)


def summary(view: View, ending: Ending, folder: RunFolder, now: float) -> list[str]:
    """What a person should know at the end."""
    traffic = f"up {size(view.bytes_up)}, down {size(view.bytes_down)}"
    lines = [
        f"{view.job}: {ending.state} ({ending.message})",
        f"{counted(view.committed, 'round')} in {duration(view.training_s(now))}, {traffic}",
        *_compression(view),
    ]
    if ending.exit_code == ExitCode.COMPLETE:
        lines += ["", *_results(view), "", f"model: {folder.model}"]
    return lines


def _compression(view: View) -> list[str]:
    """What it was, where it saved anything."""
    saved = view.bytes_saved or 0.0
    return [f"{100 * saved:.1f} % fewer bytes than float32: {view.compression}"] if saved >= LEAST_SAVED else []


def how_to_go_on(ending: Ending, again: str) -> str:
    """The remedy, where a run did not complete."""
    if ending.state == "Suspended":
        return f"Nothing is lost. Go on with: {again}"
    return f"What was learnt is kept. When the cause is gone, go on with: {again}"


def _results(view: View) -> list[str]:
    out = StringIO()
    Console(file=out, width=100).print(result_table(view))
    return [line.rstrip() for line in out.getvalue().rstrip().split("\n")]
