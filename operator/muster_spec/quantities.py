"""Amounts of memory as manifests write them: ``512Mi``, ``2Gi``, ``1.5G``."""

from __future__ import annotations

import re

from muster_spec.problems import SpecError

_UNITS = {"": 1, **{unit: 1000**power for power, unit in enumerate(("k", "M", "G", "T", "P", "E"), 1)}}
_UNITS |= {f"{unit}i": 1024**power for power, unit in enumerate(("K", "M", "G", "T", "P", "E"), 1)}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kMGTPE]|[KMGTPE]i)?", re.ASCII)


class QuantityError(SpecError):
    """A text that isn't an amount."""


def size_bytes(text: str) -> int:
    """Bytes of ``512Mi``, ``2Gi``, ``1.5G`` or ``1000``.

    Raises:
        QuantityError: it is something else.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise QuantityError(f"{text!r} is not an amount of memory: write a number with a unit, as in 512Mi or 2Gi")
    return int(float(match[1]) * _UNITS[match[2] or ""])
