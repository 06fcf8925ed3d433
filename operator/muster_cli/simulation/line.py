"""A worker's line to its coordinator without gRPC: real messages and real bytes, and the time that they would take."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from muster.connection import Postponed, Verdict
from muster.errors import ConnectionBrokenError
from muster_cli.simulation.bench import Bench
from muster_cli.simulation.fleet import Nature
from muster_cli.simulation.office import Office
from muster_wire.frames import Transfer
from muster_wire.holding import Holding
from muster_wire.v1 import federation_pb2 as pb

ROUND_TRIPS_OF_UPLOAD = 2  # an offer and its answer, then the bytes and the verdict; one where the bytes follow at once


class SimulatedLine:
    """What a `Loop` fetches, offers and reports through. `later` does something when the line's client has come so far.

    A fetch moves its bytes at once and is charged to the bench. An update has arrived when it is offered here: its
    client has waited `upload_s` before.
    """

    def __init__(
        self, nature: Nature, office: Office, bench: Bench, later: Callable[[float, Callable[[], None]], None]
    ) -> None:
        self._nature = nature
        self._office = office
        self._bench = bench
        self._later = later

    @property
    def frame_bytes(self) -> int:
        return self._office.frame_bytes

    def upload_s(self, size: int) -> float:
        """How long an update of so many bytes takes to hand in."""
        trips = 1 if size <= self._office.small_bytes else ROUND_TRIPS_OF_UPLOAD
        return trips * self._nature.round_trip_s + size / self._nature.up_bytes_s

    def fetch(self, digest: str, holding: Holding) -> None:
        wish = holding.want(digest)
        if holding.is_there:
            return
        request = pb.FetchRequest(digest=digest, offset=wish.offset, held=wish.held, partial=wish.partial)
        frames = self._office.frames(request)
        if frames is None:
            raise ConnectionBrokenError("this version of the model is no longer given out")
        size = 0
        for message in frames:
            size += len(message)
            holding.receive(message)
        trips = size > self._office.small_bytes  # a smaller one has come along with the orders
        self._bench.spend(trips * self._nature.round_trip_s + size / self._nature.down_bytes_s)

    def offer(self, offer: pb.Offer, transfer: Transfer) -> Verdict | Postponed:
        offer.header.CopyFrom(transfer.header.to_message())
        answer = self._office.submit(offer, transfer, transfer.header.size / self._nature.up_bytes_s)
        if answer is None:
            return Verdict(False, "nobody waits for this update: see the orders", is_unknown=True)
        return Verdict(answer.accepted, answer.reason)

    def report(self, assignment: str, examples: int, metrics: Mapping[str, float], error: str = "") -> None:
        found = dict(metrics)
        self._bench.spend(self._nature.round_trip_s)
        self._later(self._bench.now(), lambda: self._office.report(assignment, examples, found, error))
