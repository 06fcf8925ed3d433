"""What the lobby hears from sites, and sites from the lobby; and a site's policy, which decides on the latter."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
from google.protobuf.message import DecodeError

from muster.choosing import Memory, decide, parse_offers, standing_message
from muster.errors import ConfigError
from muster.policy import DEFAULT, SitePolicy, read_policy
from muster_lobby.attendance import MAX_REFUSALS, Attendance
from muster_lobby.claims import MAX_MESSAGE, problem_with_worker, standing_from
from muster_spec.rounds_types import Local, Optimizer
from muster_spec.terms import Terms
from muster_spec.types import InitialModel, TaskSpec
from muster_wire.v1 import federation_pb2 as federation
from muster_wire.v1 import lobby_pb2 as pb

_LOCAL = Local(
    epochs=1, batch_size=8, learning_rate=0.1, optimizer=Optimizer(type="SGD", momentum=0.0, weight_decay=0.0)
)
_TASK = TaskSpec(entrypoint="muster.tasks.digits:Digits", config={}, initial_model=InitialModel(type="Client"))
_TERMS = Terms(task=_TASK, local=_LOCAL, rounds=5, least_updates=2, image="worker@sha256:" + "a" * 64)
_POLICIES = (DEFAULT, SitePolicy(entrypoints=("*",), code="Any"))


def attend(data: bytes) -> None:
    """A worker's words are kept within their bounds, and can be shown."""
    try:
        request = pb.EnterRequest.FromString(data)
    except DecodeError:
        return
    standing = standing_from(request.standing)
    assert len(standing.refusals) <= MAX_REFUSALS
    assert all(len(one.message) <= MAX_MESSAGE and one.message.isprintable() for one in standing.refusals)
    if not problem_with_worker(request.worker):
        hall = Attendance()
        hall.leave(hall.sit("pool", request.worker, standing))
        hall.sit("pool", request.worker, standing)
        msgspec.json.encode(hall.shown("pool", {one.job: "job" for one in standing.refusals}))


def attendances() -> Iterator[bytes]:
    refusal = pb.SiteRefusal(job="u-1", because=pb.SiteRefusal.BECAUSE_PRIVACY, message="no noise")
    standing = pb.Standing(job="u-2", refusals=[refusal])
    version = federation.Version(major=1, minor=1)
    yield pb.EnterRequest(version=version, worker="w-2").SerializeToString()
    yield pb.EnterRequest(version=version, software="muster", worker="w-1", standing=standing).SerializeToString()


def offers(data: bytes) -> None:
    """Whatever is offered, a decision comes of it; what isn't allowed is never taken."""
    try:
        found = parse_offers(pb.JobOffers.FromString(data))
    except DecodeError:
        return
    for policy in _POLICIES:
        decision = decide(found, policy, Memory(), 0.0)
        if decision.take is not None:
            assert decision.take.terms is not None
            assert decision.take.job not in decision.refusals
        told = standing_message("", decision.refusals)
        assert len(standing_from(pb.Standing.FromString(told.SerializeToString())).refusals) <= MAX_REFUSALS


def some_offers() -> Iterator[bytes]:
    offer = pb.JobOffer(
        job="u-1",
        namespace="lab",
        name="digits",
        pool="site",
        coordinator="fl.example.org:443",
        authorities=b"PEM",
        terms=msgspec.json.encode(_TERMS).decode(),
        capacity=2,
    )
    version = federation.Version(major=1, minor=1)
    yield pb.JobOffers(version=version).SerializeToString()
    yield pb.JobOffers(version=version, offers=[offer]).SerializeToString()


def policy(data: bytes) -> None:
    """A policy is read whole or refused, with a sentence."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        with contextlib.suppress(ConfigError):
            found = read_policy(Path(file.name))
            assert found.api_version == "muster.dev/v1alpha1"


def policies() -> Iterator[bytes]:
    head = b"apiVersion: muster.dev/v1alpha1\nkind: SitePolicy\n"
    yield head
    yield head + b"entrypoints: ['a:*']\nprivacy: {minimumUpdates: 3, differentialPrivacy: {maximumEpsilon: 8}}\n"
    yield head + b"images: ['sha256:" + b"a" * 64 + b"']\nlimits: {rounds: 5, epochs: 2}\n"
