"""A run in plain lines, for a log file or a pipe: one line where something happened, none where nothing did."""

from __future__ import annotations

from muster_cli.view import Event, View


def line_of(view: View, event: Event) -> str | None:
    """What to say about an event, given the view after it; None for the many that need no words."""
    kind = event.get("event")
    if kind == "committed":
        return _committed(view, event)
    if kind == "evaluated":
        return _evaluated(view, event)
    if kind in {"warning", "process", "slurm"}:
        return str(event["message"])
    if kind in {"rejected", "failedAttempt", "resumed"}:
        return view.messages[-1]
    if kind == "baselines" and event["phase"] != "finished":
        return str(event["phase"])
    return None


def _committed(view: View, event: Event) -> str:
    if event["round"] == 0:
        return "first model made"
    loss = view.training.get("loss")
    words = [
        f"round {event['round']:>3}/{view.total}",
        f"{event['used']}/{event['used'] + len(event['failed'])} updates",
    ]
    if loss is not None:
        words.append(f"training loss {loss:.4f}")
    words += [f"{event['seconds']:.1f} s", f"up {size(view.bytes_up)}", f"down {size(view.bytes_down)}"]
    return "  ".join(words)


def _evaluated(view: View, event: Event) -> str | None:
    parts = [f"{where} {_scores(event[where])}" for where in ("central", "federated") if event.get(where)]
    return f"round {event['round']:>3}/{view.total}  evaluated: {', '.join(parts)}" if parts else None


def _scores(scores: Event) -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in sorted(scores.items()) if isinstance(value, float))


def size(count: float) -> str:
    """Bytes for people: 1.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float | None) -> str:
    """Seconds for people: 1:05."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def percent(fraction: float | None) -> str:
    """An accuracy for people: 93.1 %."""
    return "–" if fraction is None else f"{100 * fraction:.1f} %"
