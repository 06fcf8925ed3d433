"""The places where a coordinator may die: before every instruction and around every durable write.

An observer is told of each as it is reached. Production has one that does nothing; the crash tests launch a coordinator
with one that kills its own process at the n-th place, which is how promise 3 of the design is shown and kept.
"""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Hears of every boundary, on the driver's thread, before what follows it happens."""

    def reached(self, place: str) -> None: ...


class Unobserved:
    """Nobody is looking."""

    def reached(self, place: str) -> None:
        """Nothing to do."""
