"""Which protocol versions can talk to each other.

A worker says its version when it joins and the coordinator answers with the one that both will speak. Minor versions
only add things that an older peer may ignore, so peers one minor version apart agree on the older one. That is enough
to upgrade a federation one site at a time, and little enough to test.
"""

from __future__ import annotations

from dataclasses import dataclass

from muster_wire.errors import VersionError


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A protocol version; not the version of the software."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


CURRENT = Version(1, 1)
MEASURING = Version(1, 1)  # the first whose coordinators answer Measure
CHAINS = Version(1, 1)  # the first that fetches changes; before it, only snapshots


def negotiate(theirs: Version, ours: Version = CURRENT) -> Version:
    """The version that both sides will speak, the older of the two, or VersionError that names both."""
    if theirs.major == ours.major and abs(theirs.minor - ours.minor) <= 1:
        return min(theirs, ours)
    older = "the other side" if theirs < ours else "this side"
    raise VersionError(
        f"the other side speaks wire version {theirs} and this side {ours}: they can talk when the major versions are "
        f"equal and the minor versions at most one apart; upgrade {older}"
    )
