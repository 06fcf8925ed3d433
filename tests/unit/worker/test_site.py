"""Ranks that are one client: their update is FedAvg of theirs, and what goes wrong on one is said of that one."""

import math
import socket
import time

import numpy as np
import pytest
import small_task
import torch
from site_ranks import hooks, lost_ranks, ranks, work
from torch.utils.data import TensorDataset

from muster import Data, Shard, TaskError
from muster.batches import shard_of
from muster.desk import Ending
from muster.errors import RankLostError
from muster.orders import Scope
from muster.site.fabric import Threads
from muster.site.meeting import meet
from muster.site.reduction import Report, mean_metrics, reduce_update, trained_together
from muster.site.states import rank_seed
from muster.workshop import Workshop
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.values import Values

SIZES = (16, 24, 32)
LAYOUT = Layout(
    (
        TensorSpec("w", (3, 5), "float32", Kind.TRAINABLE),
        TensorSpec("mean", (4,), "float32", Kind.FLOAT_BUFFER),
        TensorSpec("count", (), "int64", Kind.INTEGER_BUFFER),
    )
)


def update(rank):
    rng = np.random.default_rng(rank)
    drawn = [rng.standard_normal(size).astype(np.float32) for size in (15, 4)]
    return Values(LAYOUT, *drawn, np.array([7 - rank]), np.zeros(0, np.float32))


def all_of(count, act):
    """What each rank makes of it, in threads that meet."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(count) as pool:
        return [each.result(20) for each in [pool.submit(act, fabric) for fabric in Threads(count).ranks]]


def test_the_sites_update_is_the_mean_by_examples_rounded_once():
    updates = [update(rank) for rank in range(3)]
    before = [update(rank) for rank in range(3)]
    all_of(3, lambda fabric: reduce_update(fabric, updates[fabric.rank], SIZES[fabric.rank], sum(SIZES)))
    for name in ("trainable", "float_buffers"):
        exact = sum(n * getattr(each, name).astype(np.float64) for n, each in zip(SIZES, before, strict=True)) / sum(
            SIZES
        )
        assert np.array_equal(getattr(updates[0], name), exact.astype(np.float32))
    assert updates[0].integers.tolist() == [7]  # the largest, as the server keeps it


def apart(config=None, seed=5):
    """The three shards as workshops of their own, and what they train from the same base."""
    shops = [Workshop(work(config=config), shard=Shard(rank, 3)) for rank in range(3)]
    base = shops[0].initialise(1)
    client = small_task.client()
    trained = [shop.train(client, base, {}, rank_seed(seed, rank), hooks()) for rank, shop in enumerate(shops)]
    return base, trained


def test_a_training_is_fedavg_over_the_ranks():
    base, trained = apart()
    with ranks(work()) as site:
        found = site.shop.train(small_task.client(), base, {}, 5, hooks())
    exact = sum(each.trained.examples * each.update.trainable.astype(np.float64) for each in trained) / sum(SIZES)
    assert np.array_equal(found.update.trainable, exact.astype(np.float32))
    assert found.trained.examples == sum(SIZES)
    losses = [each.trained.metrics["loss"] for each in trained]
    assert found.trained.metrics["loss"] == pytest.approx(np.average(losses, weights=SIZES))
    assert found.update.integers.tolist() == [max(int(each.update.integers[0]) for each in trained)]
    assert found.rate == trained[0].rate


def test_a_base_that_may_only_be_read_stays_as_it_is():
    base, _ = apart()
    sealed, before = base.sealed(), base.digest()
    with ranks(work()) as site:
        assert site.shop.train(small_task.client(), sealed, {}, 5, hooks()) is not None
    assert base.digest() == before


def test_private_tensors_stay_with_their_shard():
    config = {"private": True}
    base, trained = apart(config)
    with ranks(work(config=config)) as site:
        first = site.shop.train(small_task.client(), base, {}, 5, hooks())
        second = site.shop.train(small_task.client(), base, first.state_after, 6, hooks())
    for rank, each in enumerate(trained):
        assert each.state_after
        for name, tensor in each.state_after.items():
            assert torch.equal(first.state_after[f"{rank}/3/{name}"], tensor)
    assert first.state_after.keys() == second.state_after.keys()
    own = Workshop(work(config=config), shard=Shard(2, 3))
    again = own.train(small_task.client(), base, trained[2].state_after, rank_seed(6, 2), hooks())
    assert torch.equal(second.state_after["2/3/4.bias"], again.state_after["4.bias"])


def test_evaluations_are_means_over_all_that_the_ranks_hold_out():
    base, _ = apart()
    found = [
        Workshop(work(), shard=Shard(rank, 3)).evaluate(small_task.client(), base, {}, Scope.LOCAL) for rank in range(3)
    ]
    with ranks(work()) as site:
        together = site.shop.evaluate(small_task.client(), base, {}, Scope.LOCAL)
        central = site.shop.evaluate(small_task.client(), base, {}, Scope.CENTRAL)
    assert together.examples == sum(each.examples for each in found) == 4 + 5 + 6
    weights = [each.examples for each in found]
    assert together.metrics["loss"] == pytest.approx(
        np.average([each.metrics["loss"] for each in found], weights=weights)
    )
    assert central.examples == 200


def test_losses_of_models_are_weighted_by_what_they_stand_for():
    base, trained = apart()
    models = [base, Values(base.layout, base.trainable + trained[0].update.trainable, *base.buffers[1:])]
    each = [Workshop(work(), shard=Shard(rank, 3)).losses(small_task.client(), models, {}, 9) for rank in range(3)]
    with ranks(work()) as site:
        found = site.shop.losses(small_task.client(), models, {}, 9)
    assert found == pytest.approx(np.average(each, axis=0, weights=SIZES).tolist())


def test_trouble_on_one_rank_is_the_clients_and_names_the_rank():
    base, _ = apart()
    with ranks(work(config={"trouble": "shard 2"})) as site:
        for _ in range(2):  # and nobody is out of step afterwards
            with pytest.raises(TaskError, match=r"rank 2: load_shard raised FileNotFoundError: no such scanner"):
                site.shop.train(small_task.client(), base, {}, 5, hooks())


def test_work_that_is_withdrawn_stops_on_every_rank():
    base, _ = apart()
    asked = []

    def should_stop():
        asked.append(1)
        return len(asked) > 200

    with ranks(work(config={"trouble": "waits 24"})) as site:  # rank 1 would never end by itself
        assert site.shop.train(small_task.client(), base, {}, 5, hooks(should_stop)) is None
        assert site.shop.evaluate(small_task.client(), base, {}, Scope.LOCAL).examples == 15


def ending_of(desk):
    """The threads that hear of it tell the desk in their own time."""
    until = time.monotonic() + 20
    while desk.ending is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    return desk.ending


def test_a_rank_that_is_told_to_end_ends_all():
    with ranks(work()) as site:
        site.desks[2].end(Ending(143, "SIGTERM"))
        assert ending_of(site.desks[0]).code == 143
        assert "rank 2" in site.desks[0].ending.reason


def test_a_rank_that_is_gone_is_named_and_not_waited_for():
    base, _ = apart()
    with lost_ranks(work(config={"trouble": "waits 24"})) as site:  # rank 1 has not ended when its line does
        site.rolls[1]._peers[0].line.shutdown(socket.SHUT_RDWR)
        with pytest.raises(RankLostError, match=r"rank 1 \(process \d+ on .*\) is gone: its process has ended"):
            site.shop.train(small_task.client(), base, {}, 5, hooks())
        assert ending_of(site.desks[0]).code == 1


def test_who_does_not_know_the_token_is_hung_up_on():
    fabrics = Threads(2).ranks

    def act(fabric):
        if fabric.rank == 0:
            return meet(fabric, within_s=20)
        import msgspec

        from muster.site.fabric import spread
        from muster.site.meeting import Address

        address = msgspec.json.decode(spread(fabric), type=Address)
        answers = []
        for hello in (b"x 1 2 here\n", b"\n", address.token.encode() + b" 7 2 here\n"):
            with socket.create_connection(("127.0.0.1", address.port), timeout=10) as line:
                line.sendall(hello)
                answers.append(line.recv(1))
        with socket.create_connection(("127.0.0.1", address.port), timeout=10) as line:
            line.sendall(f"{address.token} 1 77 there\n".encode())
            return answers

    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        peers, answers = [each.result(20) for each in [pool.submit(act, fabric) for fabric in fabrics]]
    assert answers == [b"", b"", b""]
    assert [(peer.rank, peer.name) for peer in peers] == [(1, "rank 1 (process 77 on there)")]
    peers[0].line.close()


def test_a_client_that_is_not_sharded_by_its_task_is_cut_evenly():
    data = Data(small_task.points(0, 10), small_task.points(1, 2))
    shards = [shard_of(data, Shard(rank, 4)) for rank in range(4)]
    assert [len(shard.train) for shard in shards] == [3, 3, 2, 2]
    assert [shard.validation and len(shard.validation) for shard in shards] == [1, 1, None, None]
    assert all(isinstance(shard.train, TensorDataset) for shard in shards)
    together = torch.cat([shard.train.tensors[0] for shard in shards])
    assert sorted(together[:, 0].tolist()) == sorted(data.train.tensors[0][:, 0].tolist())


def test_what_a_site_says_of_its_steps_is_the_share_of_its_work():
    local = small_task.local(epochs=2, batch_size=10)
    full = [Report(examples=25, steps=6, metrics={"loss": 1.0}), Report(examples=35, steps=8, metrics={"loss": 2.0})]
    half = [Report(examples=25, steps=3), Report(examples=35, steps=4)]
    assert trained_together(full, local).steps == 12  # of one client with 60 examples
    assert trained_together(half, local).steps == 6
    assert trained_together([Report(examples=25), Report(examples=35)], local).steps == 0
    limited = small_task.local(epochs=2, batch_size=10, max_steps=4)
    assert trained_together([Report(examples=25, steps=4), Report(examples=35, steps=4)], limited).steps == 4
    assert trained_together(half, local, 4).steps == 4  # as many as were ordered
    assert trained_together(full, local).metrics == {"loss": pytest.approx((25 + 70) / 60)}


def test_a_root_of_means_is_averaged_as_such():
    parts = [(1, {"lossRms": 3.0, "loss": 1.0}), (3, {"lossRms": 5.0}), (0, {"loss": math.nan})]
    assert mean_metrics(parts) == {"lossRms": pytest.approx(math.sqrt((9 + 3 * 25) / 4)), "loss": 1.0}
