"""Small models that go along with orders: what Fetch would answer, once, and only where that is small."""

import numpy as np
import pytest

from muster_coordinator.broadcast import Broadcasts
from muster_coordinator.compression import Down
from muster_coordinator.enclosing import NOTHING, Enclosures
from muster_coordinator.reference import Encoder
from muster_wire.codecs import CodecId, Pipeline
from muster_wire.feedback import Recipe
from muster_wire.holding import Holding
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.values import Values
from muster_wire.version import CURRENT, Version

LAYOUT = Layout((TensorSpec("weight", (1000,), "float32", Kind.TRAINABLE),))
CHAIN = Down(Pipeline(CodecId.INT8), Recipe(Pipeline(CodecId.INT8)))
ROOM = 2**16
MODELS = [Values.gather(LAYOUT, {"weight": np.arange(1000) + number}) for number in range(2)]
OLDER = Version(1, 0)


@pytest.fixture(params=[Down(), CHAIN], ids=["snapshots", "changes"])
def broadcasts(request, tmp_path):
    made = Broadcasts(Encoder(tmp_path, request.param, 0), keep=3, frame_bytes=512)
    for number, model in enumerate(MODELS):
        made.publish(model.digest(), model, number)
    return made


def version_of(broadcasts, number):
    return broadcasts.reference(MODELS[number].digest())


def training(*models):
    return pb.Orders(assignments=[pb.Assignment(id=model, train=pb.Train(base=model)) for model in models])


def evaluation(model):
    return pb.Orders(assignments=[pb.Assignment(evaluate=pb.Evaluate(model=model))])


def frames_in(orders, enclosure):
    """As a worker reads them."""
    return pb.Orders.FromString(orders.SerializeToString() + enclosure.frames).frames


@pytest.mark.parametrize("orders_for", [training, evaluation])
def test_a_worker_comes_to_the_version_by_what_goes_along(broadcasts, orders_for):
    enclosures, holding, given = Enclosures(broadcasts, ROOM), Holding(), ""
    for version in (version_of(broadcasts, 0), version_of(broadcasts, 1)):
        orders = orders_for(version)
        enclosed = enclosures.of(orders, given, CURRENT)
        holding.want(version)
        holding.receive_all(frames_in(orders, enclosed))
        assert holding.is_there
        given = enclosed.digest
        assert given == version
        assert enclosures.of(orders, given, CURRENT) is NOTHING  # it has been given out on this stream


def test_it_is_made_once_for_everybody(broadcasts):
    enclosures, newest = Enclosures(broadcasts, ROOM), version_of(broadcasts, 1)
    one, other = (enclosures.of(training(newest), "", CURRENT) for _ in range(2))
    assert one.frames
    assert one is other


def test_whoever_works_for_several_clients_gets_it_once(broadcasts):
    newest = version_of(broadcasts, 1)
    assert Enclosures(broadcasts, ROOM).of(training(newest, newest), "", CURRENT).digest == newest


@pytest.mark.parametrize("room", [100, 1000])
def test_larger_models_do_not_go_along(broadcasts, room):
    assert Enclosures(broadcasts, room).of(training(version_of(broadcasts, 1)), "", CURRENT) is NOTHING


def test_without_one_version_that_is_wanted_there_is_nothing_to_give(broadcasts):
    enclosures, known = Enclosures(broadcasts, ROOM), version_of(broadcasts, 1)
    first = pb.Orders(assignments=[pb.Assignment(initialise=pb.Initialise(seed=1))])
    for orders in (pb.Orders(), first, training("f" * 32), training(known, version_of(broadcasts, 0))):
        assert enclosures.of(orders, "", CURRENT) is NOTHING


def test_an_older_worker_fetches(broadcasts):
    assert Enclosures(broadcasts, ROOM).of(training(version_of(broadcasts, 1)), "", OLDER) is NOTHING
