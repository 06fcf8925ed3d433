"""Amounts as people read them, the same in every message, log and status."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "") -> str:
    """``1 round``, ``2 rounds``; `plural` for nouns that take more than an s."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def percent(share: float) -> str:
    """A share of one as ``93.1%``, without a blank: columns are split at them."""
    return f"{100 * share:.1f}%"


def size(count: float) -> str:
    """Bytes as ``1.2 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def seconds(amount: float) -> str:
    """A length of time as ``1.5 s``, ``48 s``, ``12 min`` or ``3.5 h``, to about two digits."""
    if amount < 9.95:
        return f"{amount:.1f} s"
    if amount < 119.5:
        return f"{amount:.0f} s"
    return f"{amount / 60:.0f} min" if amount < 7170 else f"{amount / 3600:.1f} h"
