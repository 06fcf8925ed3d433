"""Every decoder of bytes that others wrote, as a function that a fuzzer can call with anything.

A target swallows the errors that its decoder documents and asserts what has to hold otherwise; whatever else it raises
is a finding. Its seeds are real encodings, made here and not committed, so that they follow the format. Inputs that
once found something lie in ``found/<target>/`` for good, and a unit test runs every target on all of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from fuzz import claim_targets, codec_targets, file_targets, lobby_targets, shape_targets, trust_targets, wire_targets

FOUND = Path(__file__).parent / "found"


@dataclass(frozen=True, slots=True)
class Target:
    """One decoder; inputs of at most `longest` bytes are tried."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    longest: int = 4096


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "request": Target(wire_targets.request, wire_targets.requests),
        "whole": Target(wire_targets.whole, wire_targets.wholes),
        "frame": Target(wire_targets.frame, wire_targets.frames),
        "attendance": Target(wire_targets.attendance, wire_targets.attendances),
        "tail": Target(wire_targets.tail, wire_targets.tails),
        "header": Target(wire_targets.header, wire_targets.headers),
        "layout": Target(wire_targets.layout, wire_targets.layouts),
        "chain": Target(shape_targets.chain, shape_targets.chains),
        "lacking": Target(shape_targets.lacking, shape_targets.some_lacking),
        "join": Target(claim_targets.join, claim_targets.joins),
        "report": Target(claim_targets.report, claim_targets.reports),
        "offer": Target(claim_targets.offer, claim_targets.some_claims),
        "measure": Target(claim_targets.measure, claim_targets.measurements),
        "orders": Target(wire_targets.orders, wire_targets.some_orders),
        "part": Target(wire_targets.part, wire_targets.parts),
        "way": Target(wire_targets.way, wire_targets.ways),
        "upload": Target(wire_targets.upload, wire_targets.uploads),
        "payload": Target(wire_targets.payload, wire_targets.payloads),
        "floats": Target(codec_targets.floats, codec_targets.seeds(codec_targets.FLOATS)),
        "integers": Target(codec_targets.integers, codec_targets.seeds(codec_targets.INTEGERS)),
        "signs": Target(codec_targets.signs, codec_targets.seeds(codec_targets.SIGNS)),
        "sparse": Target(codec_targets.sparse, codec_targets.seeds(codec_targets.SPARSE)),
        "lossless": Target(codec_targets.lossless, codec_targets.seeds(codec_targets.LOSSLESS)),
        "certificate": Target(trust_targets.certificate, trust_targets.certificates),
        "enrolment": Target(trust_targets.enrolment, trust_targets.enrolments),
        "bundle": Target(trust_targets.bundle, trust_targets.bundles),
        "names": Target(trust_targets.names, trust_targets.some_names),
        "attend": Target(lobby_targets.attend, lobby_targets.attendances),
        "offers": Target(lobby_targets.offers, lobby_targets.some_offers),
        "policy": Target(lobby_targets.policy, lobby_targets.policies),
        "version": Target(file_targets.version, file_targets.versions),
        "model": Target(file_targets.model, file_targets.models),
        "memory": Target(file_targets.memory, file_targets.memories),
        "held": Target(file_targets.held, file_targets.some_held),
        "record": Target(file_targets.record, file_targets.records),
        "manifest": Target(file_targets.manifest, file_targets.manifests, longest=2048),
    }
)
