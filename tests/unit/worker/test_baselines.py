import pytest
from small_task import Points, client, work

from muster.baselines import local_only, pooled

CLIENTS = [client(ordinal) for ordinal in range(4)]


def test_pooled_training_sees_everybodys_examples_as_often_as_asked():
    seen = []

    class Counting(Points):
        def train(self, model, dataset, training):
            trained = super().train(model, dataset, training)
            seen.append((trained.examples, trained.steps))
            return trained

    metrics = pooled(Counting({}), CLIENTS, work(max_steps=1, time_budget="1ms"), passes=3, seed=0)
    assert seen == [(4 * 48, 3 * 12)]
    assert metrics["accuracy"] > 0.9
    local_only(Counting({}), CLIENTS, work(), passes=3, seed=0)
    assert seen[1:] == [(48, 9)] * 4


def test_local_only_is_the_mean_over_the_clients():
    alone = [local_only(Points({}), [each], work(), 2, 0)["loss"] for each in CLIENTS]
    assert local_only(Points({}), CLIENTS, work(), 2, 0)["loss"] == pytest.approx(sum(alone) / 4)


def test_the_same_seed_gives_the_same_figure():
    assert pooled(Points({}), CLIENTS, work(), 2, 5) == pooled(Points({}), CLIENTS, work(), 2, 5)


def test_without_a_test_set_what_clients_hold_out_is_measured():
    task = Points({"testSet": False})
    assert pooled(task, CLIENTS, work(), 2, 0)["accuracy"] > 0.8


def test_nothing_to_measure_on_is_no_figure():
    class Blind(Points):
        def load_data(self, client):
            return type(super().load_data(client))(super().load_data(client).train)

    task = Blind({"testSet": False})
    assert pooled(task, CLIENTS, work(), 1, 0) == local_only(task, CLIENTS, work(), 1, 0) == {}
