import pytest

from muster.orders import Assignment, Evaluate, Initialise, Orders, Scope, Settlement, Train, parse_orders
from muster.reconcile import Leave, Offer, Settle, Standing, Wait, Work, next_action
from muster_spec.clients import ClientId
from muster_wire.codecs import CodecId, Pipeline
from muster_wire.feedback import Recipe
from muster_wire.v1 import federation_pb2 as wire

NOW = 100.0


def assignment(id_, client="p/0"):
    return Assignment(id_, ClientId(client), 1, Train("base", 1, Recipe(Pipeline())))


A, B, C = assignment("1.0.a"), assignment("1.0.b", "p/1"), assignment("1.0.c", "p/2")
USED, UNUSED = Settlement("0.0.x", used=True, reason=""), Settlement("0.0.y", used=False, reason="late")


@pytest.mark.parametrize(
    ("orders", "standing", "expected"),
    [
        pytest.param(Orders(), Standing(), Wait(None, "no work for now"), id="nothing wanted"),
        pytest.param(Orders(1, (A, B)), Standing(), Work(A), id="work in the order given"),
        pytest.param(Orders(1, (A, B)), Standing(held={A.id}), Offer(A), id="offer what is held"),
        pytest.param(Orders(1, (A, B)), Standing(held={B.id}), Offer(B), id="offer before more work"),
        pytest.param(Orders(1, (A, B)), Standing({A.id}, offered={A.id}), Work(B), id="acknowledged: not again"),
        pytest.param(
            Orders(1, (A,)), Standing({A.id}, offered={A.id}), Wait(None, "no work for now"), id="wait for settlement"
        ),
        pytest.param(Orders(1, (A,)), Standing(done={A.id}), Wait(None, "no work for now"), id="given up: not again"),
        pytest.param(Orders(1, ()), Standing(held={A.id}), Wait(None, "no work for now"), id="held, not wanted"),
        pytest.param(Orders(1, (A,), (USED,)), Standing({"0.0.x"}), Settle(USED), id="settle before work"),
        pytest.param(Orders(1, (A,), (UNUSED,)), Standing({"0.0.y"}), Settle(UNUSED), id="settle the unused too"),
        pytest.param(Orders(1, (A,), (USED,)), Standing(), Work(A), id="a settlement of nothing held"),
        pytest.param(
            Orders(1, (A,), finished=True, reason="done"), Standing(), Leave("done"), id="finished: no more work"
        ),
        pytest.param(
            Orders(1, (), (USED,), finished=True), Standing({"0.0.x"}), Settle(USED), id="settle before leaving"
        ),
        pytest.param(
            Orders(1, (A, B)), Standing({A.id}, not_before={A.id: NOW + 2}), Work(B), id="postponed: work meanwhile"
        ),
        pytest.param(
            Orders(1, (A, B)),
            Standing({A.id, B.id}, not_before={A.id: NOW + 2, B.id: NOW + 1}),
            Wait(NOW + 1, "the coordinator is out of memory for 2 updates"),
            id="all postponed: until the first",
        ),
        pytest.param(
            Orders(1, (A,)), Standing({A.id}, not_before={A.id: NOW - 1}), Offer(A), id="postponed until a moment ago"
        ),
    ],
)
def test_next_action(orders, standing, expected):
    assert next_action(orders, standing, NOW) == expected


def test_repeating_the_answers_reaches_a_rest():
    """Whatever is wanted, doing what is said ends in waiting, with each assignment worked on once and offered once."""
    orders, held, offered, log = Orders(1, (A, B, C), (USED,)), {"0.0.x", C.id}, set(), []
    for _ in range(20):
        action = next_action(orders, Standing(held, offered), NOW)
        match action:
            case Settle(settlement):
                held.remove(settlement.assignment)
            case Work(work):
                held.add(work.id)
            case Offer(offer):
                offered.add(offer.id)
            case Wait():
                break
        log.append(action)
    assert log == [Settle(USED), Offer(C), Work(A), Offer(A), Work(B), Offer(B)]


def test_orders_are_parsed_once():
    message = wire.Orders(
        revision=4,
        assignments=[
            wire.Assignment(id="0", pool="p", index=1, initialise=wire.Initialise(seed=5)),
            wire.Assignment(
                id="1",
                pool="p",
                index=1,
                round=2,
                train=wire.Train(base="b", seed=6, codec=2, budget_ms=1500, steps=40),
            ),
            wire.Assignment(id="2", pool="q", round=2, evaluate=wire.Evaluate(model="m", scope=1)),
            wire.Assignment(id="3", pool="q", round=2, evaluate=wire.Evaluate(model="m", scope=2)),
            wire.Assignment(id="4", pool="q"),
        ],
        settlements=[wire.Settlement(assignment="z", fate=1), wire.Settlement(assignment="y", fate=2, reason="late")],
    )
    orders = parse_orders(message, 100.0)
    assert orders.assignments == (
        Assignment("0", ClientId("p/1"), 0, Initialise(5)),
        Assignment("1", ClientId("p/1"), 2, Train("b", 6, Recipe(Pipeline(CodecId.FLOAT16)), stop_at=101.5, steps=40)),
        Assignment("2", ClientId("q/0"), 2, Evaluate("m", Scope.CENTRAL)),
        Assignment("3", ClientId("q/0"), 2, Evaluate("m", Scope.LOCAL)),
    )
    assert orders.settlements == (
        Settlement("z", used=True, reason=""),
        Settlement("y", used=False, reason="late"),
    )
    assert orders.wants("1")
    assert not orders.wants("4")
