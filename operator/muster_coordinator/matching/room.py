"""How much memory matching takes, for the coordinator's budget: what rows.py and assignment.py hold at their height.

That is the largest layer of one client and the global units that it is matched to, both in float64, and the table of
gains twice: scipy makes a copy of it. Models grow as they are matched, so a budget has to do for the largest.
"""

from __future__ import annotations

import math
from typing import Final

from muster_coordinator.matching.assignment import Matching
from muster_wire.errors import LayoutError
from muster_wire.layout import Layout
from muster_wire.matching import chain_of, widths_of, with_units

SOLVER_BYTES: Final = 32 * 2**20  # scipy's code and data, which come when the first layer is matched


def models_in_memory(matching: Matching) -> int:
    """Models whose layers are hardly more than one; a client's is as wide as the task makes it."""
    return 2 + math.ceil(2 * max(matching.max_growth, 1.0))


def largest(layout: Layout, matching: Matching) -> Layout:
    """What a first model may grow to; itself where it is no chain, which is refused elsewhere."""
    try:
        chain = chain_of(layout)
        widths = [int(width * max(matching.max_growth, 1.0)) for width in widths_of(layout, chain)]
        return with_units(layout, chain, widths)
    except LayoutError:
        return layout


def table_bytes(layout: Layout) -> int:
    """What each unit of a client gains by each match, twice, of the widest layer."""
    try:
        widths = widths_of(layout, chain_of(layout))
    except LayoutError:
        return 0
    return 2 * 8 * max(widths) ** 2
