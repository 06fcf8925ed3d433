"""Who hears of a run's events: the run folder always, and one of a terminal, a plain log or a machine.

All of them are told everything through `hear`; what they make of it is decided by the pure modules `view`, `screen` and
`lines`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol, Self

from rich.console import Console
from rich.live import Live

from muster_cli.lines import line_of
from muster_cli.screen import render
from muster_cli.view import Event, View

FRAME_S = 0.1  # as often as a picture is drawn anew, however much happens


class Display(Protocol):
    """One way of showing a run."""

    def show(self, view: View, event: Event) -> None:
        """Something has happened; `view` is how things are after it."""

    def tick(self, view: View) -> None:
        """Time has passed."""

    def close(self, view: View) -> None:
        """Nothing more will happen."""


class TerminalDisplay:
    """A picture that is drawn anew in place. No thread of its own: the session's loop ticks."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()
        self._drawn_at = 0.0

    def show(self, view: View, event: Event) -> None:
        """The next tick shows it."""

    def tick(self, view: View) -> None:
        if time.monotonic() - self._drawn_at >= FRAME_S:
            self._draw(view)

    def close(self, view: View) -> None:
        self._draw(view)
        self._live.stop()

    def _draw(self, view: View) -> None:
        self._drawn_at = time.monotonic()
        self._live.update(render(view, time.time()), refresh=True)


class PlainDisplay:
    """Lines, for logs and pipes."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def show(self, view: View, event: Event) -> None:
        line = line_of(view, event)
        if line is not None:
            print(line, file=self._out, flush=True)

    def tick(self, view: View) -> None:
        """Nothing to do."""

    def close(self, view: View) -> None:
        """Nothing to do."""


class JsonDisplay:
    """One JSON object a line, and nothing else on stdout."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def show(self, view: View, event: Event) -> None:  # noqa: ARG002 - machines fold for themselves
        print(json.dumps(event), file=self._out, flush=True)

    def tick(self, view: View) -> None:
        """Nothing to do."""

    def close(self, view: View) -> None:
        """Nothing to do."""


def choose_display(as_json: bool) -> Display:
    """The display that suits where stdout goes."""
    if as_json:
        return JsonDisplay(sys.stdout)
    console = Console()
    return TerminalDisplay(console) if console.is_terminal else PlainDisplay(sys.stdout)


def read_events(path: Path) -> Iterator[Event]:
    """The events of an earlier runner of the same run; the last line may be torn, if that one was killed."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event


class Record:
    """metrics.jsonl: every event, in the order in which the runner heard of it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1, encoding="utf-8")

    def write(self, event: Event) -> None:
        self._file.write(json.dumps(event) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
