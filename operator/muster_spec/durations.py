"""Durations as manifests write them: ``30s``, ``4h``, ``1h30m``."""

from __future__ import annotations

import re

from muster_spec.problems import SpecError

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"([1-9][0-9]*)(ms|s|m|h|d)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)


class DurationError(SpecError):
    """A text that isn't a duration."""


def duration_s(text: str) -> float:
    """Seconds of ``30s``, ``4h``, ``1h30m``, ``500ms``.

    Raises:
        DurationError: it is something else.
    """
    if not _WHOLE.fullmatch(text):
        raise DurationError(f"{text!r} is not a duration: write numbers with units, as in 30s, 4h or 1h30m")
    return sum(int(count) * _UNITS_S[unit] for count, unit in _PART.findall(text))
