"""The lobby's messages to the byte, as docs/wire.md and lobby.proto have them."""

from __future__ import annotations

import json

import msgspec

from muster.policy import Because
from muster_spec.rounds_types import Local, Optimizer
from muster_spec.terms import Terms
from muster_spec.types import InitialModel, TaskSpec
from muster_wire.trust.bundle import Bundle, read_bundle
from muster_wire.v1 import federation_pb2 as federation
from muster_wire.v1 import lobby_pb2 as pb

VERSION = federation.Version(major=1, minor=1)


def test_what_a_worker_says_to_the_byte() -> None:
    refusal = pb.SiteRefusal(job="u", because=pb.SiteRefusal.BECAUSE_IMAGE, message="m")
    standing = pb.Standing(job="j", refusals=[refusal])
    said = "0a 01 6a 12 08 0a 01 75 10 04 1a 01 6d"
    assert standing.SerializeToString().hex(" ") == said
    entering = pb.EnterRequest(version=VERSION, software="s", worker="w", standing=standing)
    assert entering.SerializeToString().hex(" ") == f"0a 04 08 01 10 01 12 01 73 1a 01 77 22 0d {said}"
    assert pb.TellRequest(worker="w", standing=standing).SerializeToString().hex(" ") == f"0a 01 77 12 0d {said}"


def test_what_is_offered_to_the_byte() -> None:
    offer = pb.JobOffer(
        job="u",
        namespace="n",
        name="j",
        pool="p",
        coordinator="c",
        authorities=b"a",
        terms="t",
        capacity=300,
        share=2,
    )
    said = "0a 01 75 12 01 6e 1a 01 6a 22 01 70 2a 01 63 32 01 61 3a 01 74 40 ac 02 48 02"
    assert offer.SerializeToString().hex(" ") == said
    offers = pb.JobOffers(version=VERSION, offers=[offer])
    assert offers.SerializeToString().hex(" ") == f"0a 04 08 01 10 01 12 1a {said}"


def test_reasons_keep_their_numbers() -> None:
    assert dict(pb.SiteRefusal.Because.items()) == {
        "BECAUSE_UNSPECIFIED": 0,
        "BECAUSE_JOB": 1,
        "BECAUSE_ENTRYPOINT": 2,
        "BECAUSE_CODE": 3,
        "BECAUSE_IMAGE": 4,
        "BECAUSE_PRIVACY": 5,
        "BECAUSE_LIMIT": 6,
        "BECAUSE_TERMS": 7,
        "BECAUSE_CANNOT": 8,
    }
    assert {f"BECAUSE_{each.name}" for each in Because} | {"BECAUSE_UNSPECIFIED"} == set(pb.SiteRefusal.Because.keys())


def test_terms_keep_their_names() -> None:
    optimizer = Optimizer(type="SGD", momentum=0.0, weight_decay=0.0)
    terms = Terms(
        task=TaskSpec(entrypoint="a:B", config={}, initial_model=InitialModel(type="Client")),
        local=Local(epochs=1, batch_size=8, learning_rate=0.1, optimizer=optimizer),
        rounds=5,
        least_updates=2,
        image="w",
    )
    told = json.loads(msgspec.json.encode(terms))
    assert told.keys() == {"task", "local", "rounds", "leastUpdates", "image", "privacy"}
    assert told["task"]["entrypoint"] == "a:B"
    assert (told["rounds"], told["leastUpdates"], told["image"], told["privacy"]) == (5, 2, "w", None)


def test_a_pools_bundle_says_that_it_leads_to_a_lobby() -> None:
    bundle = Bundle("fl.example.org:443", "CA", "CERTIFICATE", "KEY", lobby=True)
    assert json.loads(bundle.to_json()) == {
        "coordinator": "fl.example.org:443",
        "ca": "CA",
        "certificate": "CERTIFICATE",
        "key": "KEY",
        "lobby": True,
    }
    assert "lobby" not in Bundle("h:1", "CA", "C", "K").to_json()  # an older worker takes no field that it doesn't know
    older = '{"coordinator": "h:1", "ca": "CA", "certificate": "C", "key": "K"}'
    assert not read_bundle(older).lobby
