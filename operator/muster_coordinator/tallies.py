"""What is counted of the traffic with clients: bytes that crossed the wire, and calls and updates that were refused."""

from __future__ import annotations

from dataclasses import dataclass

from muster_coordinator.meter import ByteMeter
from muster_coordinator.refusals import Refusals


@dataclass(frozen=True, slots=True)
class Tallies:
    """One of each for a coordinator."""

    meter: ByteMeter
    refusals: Refusals
