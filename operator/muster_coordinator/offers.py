"""What an offer of an update has to be, and what the engine hears of it: the part of an upload that knows no network.

The server asks while bytes come in (uploads.py), a simulation when they would have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from muster_coordinator.assignments import client_of
from muster_coordinator.claims import MAX_NAME, losses_of, one_line
from muster_coordinator.compression import Codecs
from muster_coordinator.events import UpdateStaged
from muster_coordinator.instructions import OrderInitialisation, OrderTraining
from muster_coordinator.orders import OrderBook
from muster_coordinator.records import USUAL, AssignmentId
from muster_coordinator.workbench import Workbench
from muster_spec.clients import ClientId
from muster_wire.codecs import Pipeline, pipeline_of
from muster_wire.errors import Cause, LayoutError, PayloadError
from muster_wire.frames import Header
from muster_wire.layout import Layout
from muster_wire.matching import chain_of
from muster_wire.payload import PayloadKind, Shape
from muster_wire.reduced import missing_of
from muster_wire.submodel import Part
from muster_wire.v1 import federation_pb2 as pb


@dataclass(frozen=True, slots=True)
class Offered:
    """An offer of work that is wanted, from the client it is wanted from."""

    client: ClientId
    assignment: AssignmentId
    message: pb.Offer
    kind: PayloadKind
    pipeline: Pipeline  # that was asked for
    layout: Layout | None  # that it must have; None: any
    part: Part | None = None  # of the model that it is about


@dataclass(frozen=True, slots=True)
class Offers:
    """Judges them by what the order book wants and the workbench has."""

    book: OrderBook
    workbench: Workbench
    codecs: Codecs

    def wanted(self, offer: pb.Offer) -> Offered:
        """What is asked for under the name of an offer that somebody waits for."""
        assignment = AssignmentId(offer.assignment)
        client = client_of(assignment)
        order = self.book.wanted(client, assignment)
        if isinstance(order, OrderInitialisation):
            return Offered(client, assignment, offer, PayloadKind.SNAPSHOT, Pipeline(), None)
        part = self.workbench.part(order) if isinstance(order, OrderTraining) else None
        layout = part.layout if part else self.workbench.update_layout
        uplink = order.uplink if isinstance(order, OrderTraining) else USUAL
        pipeline = self.codecs.recipe(uplink).pipeline
        return Offered(client, assignment, offer, PayloadKind.UPDATE, pipeline, layout, part)

    def check_header(self, header: Header, offered: Offered) -> None:
        """Raises PayloadError for an update that isn't encoded, or made for the model, that was asked for."""
        found = pipeline_of(header.codec)
        if found != offered.pipeline:
            asked = _named(offered.pipeline)
            raise PayloadError(Cause.MALFORMED, f"encoded as {_named(found)}, and {asked} was asked for")
        if offered.layout is not None and header.layout != offered.layout and not self._is_reduced(header, offered):
            raise PayloadError(Cause.WRONG_LAYOUT, difference_of_layouts(header.layout, offered.layout))
        self._check_first(header, offered)

    def _check_first(self, header: Header, offered: Offered) -> None:
        """A first model has to say of itself what the job's way with models needs to know."""
        is_first = offered.kind is PayloadKind.SNAPSHOT
        if is_first and self.workbench.trains_parts and not header.layout.groups:
            raise PayloadError(
                Cause.WRONG_LAYOUT, "the first model doesn't say which of its units may be left out together"
            )
        if is_first and self.workbench.matches_layers:
            try:
                chain_of(header.layout)
            except LayoutError as error:
                raise PayloadError(Cause.WRONG_LAYOUT, f"FedMA can't match this model: {error}") from error

    def _is_reduced(self, header: Header, offered: Offered) -> bool:
        """Whether it lacks nothing but layers, where it may."""
        if offered.layout is None or offered.part is not None or not self.workbench.sums_layers:
            return False
        return missing_of(header.layout, offered.layout) is not None

    def staged(self, offered: Offered, header: Header, upload_s: float, norm: float) -> UpdateStaged:
        """What the engine hears of an update that is here, whole and checked; 0 for seconds that are not known, and for
        a norm that nobody computed.
        """
        message = offered.message
        whole = self.workbench.layout or header.layout
        return UpdateStaged(
            client=offered.client,
            assignment=offered.assignment,
            examples=message.examples,
            steps=message.steps,
            metrics=dict(message.metrics),
            size_bytes=header.size,
            train_ms=message.train_ms,
            upload_s=upload_s,
            plain_bytes=Shape(whole, offered.kind, Pipeline()).sizes.most,
            losses=losses_of(message),
            memory_lost=message.memory_lost,
            norm=norm,
            missing=missing_of(header.layout, whole) or () if self.workbench.sums_layers else (),
        )


def difference_of_layouts(theirs: Any, ours: Any) -> str:
    """The first tensor in which an update isn't made for this model."""
    for their, our in zip(theirs.tensors, ours.tensors, strict=False):
        if their != our:
            return (
                f"tensor {one_line(their.name[:MAX_NAME])} is {list(their.shape)} {their.kind.value}, and the job's "
                f"model has {our.name} {list(our.shape)} {our.kind.value} there: every client must build the same model"
            )
    return (
        f"{len(theirs.tensors)} tensors, and the job's model has {len(ours.tensors)}: every client must build the same"
    )


def _named(pipeline: Pipeline) -> str:
    return f"{pipeline.name} in blocks of {pipeline.block}" if pipeline.block else pipeline.name
