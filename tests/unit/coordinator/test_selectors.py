"""What holds for every policy of selection, and what their draws are."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from choosing import histories_of, names, request_for
from muster_coordinator.selection import SELECTORS, Selector, drawn, highest
from muster_coordinator.selectors import POLICIES
from muster_coordinator.selectors.adaptive import Adaptive
from muster_coordinator.selectors.contribution import ContributionHistory
from muster_coordinator.selectors.cost import Cost, Rate
from muster_coordinator.selectors.label import Label
from muster_coordinator.selectors.oort import Oort
from muster_coordinator.selectors.power_of_choice import PowerOfChoice
from muster_spec.schemas import schema_of

EVERY: dict[str, Selector] = {
    "Random": SELECTORS["Random"],
    "Adaptive": Adaptive(1, 1, 1, 1, 1, 1),
    "Oort": Oort(0.9, 0.98, 0.2, 20, 2),
    "PowerOfChoice": PowerOfChoice(None),
    "Label": Label("site=north"),
    "Cost": Cost(1, 1, 1, {"a": Rate(2.0, 300.0, 0.1)}),
    "ContributionHistory": ContributionHistory(0.1),
}


def test_the_policies_are_those_of_the_schema() -> None:
    chosen = schema_of("FederatedJob")["properties"]["spec"]["properties"]["selection"]["properties"]["type"]["enum"]
    assert set(POLICIES) == set(chosen)
    assert {*EVERY, "All"} == set(chosen)


counts = st.lists(st.integers(0, 50), min_size=12, max_size=12)
times = st.lists(st.one_of(st.just(float("nan")), st.floats(0.001, 1e6)), min_size=12, max_size=12)
pasts = st.fixed_dictionaries(
    dict.fromkeys(("used", "late", "last_asked", "last_used", "examples", "moved", "moved_weight"), counts)
    | dict.fromkeys(("elapsed_s", "train_s", "bytes_per_s", "loss", "loss_rms"), times)
)


@pytest.mark.parametrize("name", EVERY)
@given(there=st.integers(0, 12), wanted=st.integers(1, 12), past=pasts)
def test_whatever_is_known_a_policy_chooses_enough_clients_once_and_says_why(
    name: str, there: int, wanted: int, past: dict[str, list[float]]
) -> None:
    clients, histories = names(12), histories_of(12, asked=np.add(past["used"], past["late"]), **past)
    request = replace(request_for(wanted, clients, histories, number=51), eligible=clients[:there])
    choices = EVERY[name](request)
    assert len(choices) == min(wanted, there)
    asked = [choice.client for choice in choices]
    assert asked == sorted(set(asked), key=clients.index)
    assert set(asked) <= set(clients[:there])
    assert all(choice.reason for choice in choices)
    assert EVERY[name](request) == choices


@pytest.mark.parametrize("name", sorted(set(EVERY) - {"Adaptive", "Cost"}))
def test_where_a_policy_draws_the_draw_depends_on_seed_round_and_attempt(name: str) -> None:
    base = request_for(6, names(40), histories_of(40))
    others = [replace(base, seed=2), replace(base, round=6), replace(base, attempt=1)]
    first = [choice.client for choice in EVERY[name](base)]
    assert all([choice.client for choice in EVERY[name](other)] != first for other in others)


def test_a_weighted_draw_has_the_odds_of_one_after_the_other() -> None:
    # by hand, for weights 1, 2, 3: {0,1} 1/6·2/5 + 2/6·1/4 = 0.15, {0,2} 1/6·3/5 + 3/6·1/3 = 4/15, {1,2} the rest
    base = request_for(2, names(3), histories_of(3))
    found: Counter[tuple[int, ...]] = Counter()
    for number in range(6000):
        uniforms = replace(base, round=number).uniforms("test")
        found[tuple(sorted(drawn(np.array([1.0, 2.0, 3.0]), 2, uniforms).tolist()))] += 1
    for pair, odds in {(0, 1): 0.15, (0, 2): 4 / 15, (1, 2): 7 / 12}.items():
        assert abs(found[pair] / 6000 - odds) < 4 * (odds * (1 - odds) / 6000) ** 0.5


def test_whoever_weighs_nothing_is_drawn_last() -> None:
    uniforms = request_for(3, names(3), histories_of(3)).uniforms("test")
    assert drawn(np.array([0.0, 1.0, 0.0]), 3, uniforms)[0] == 1


def test_the_highest_come_best_first_and_ties_are_drawn() -> None:
    assert highest(np.array([1.0, 3.0, 3.0, 2.0]), 3, np.array([0.1, 0.9, 0.2, 0.5])).tolist() == [2, 1, 3]


def test_uniform_numbers_never_change() -> None:
    # Philox is one of numpy's generators whose stream is promised to stay
    uniforms = request_for(1, names(3), histories_of(3)).uniforms("test")
    assert all(0 < value < 1 for value in uniforms)
    assert uniforms.tolist() == request_for(1, names(3), histories_of(3)).uniforms("test").tolist()
    assert uniforms.tolist() != request_for(1, names(3), histories_of(3)).uniforms("other").tolist()


# --- label ------------------------------------------------------------------------------------------------------------


def test_a_draw_by_label_is_even_and_names_the_labels() -> None:
    base = request_for(4, names(10), histories_of(10))
    found = Counter(choice.client for number in range(2000) for choice in EVERY["Label"](replace(base, round=number)))
    assert max(abs(count - 800) for count in found.values()) < 110  # 5 standard deviations
    assert EVERY["Label"](base)[0].reason == "label: one of 4 drawn from 10 with site=north"


# --- cost -------------------------------------------------------------------------------------------------------------

POOLS = (*names(2, "cloud"), *names(2, "spot"))


def test_costs_are_hours_times_rates_in_multiples_of_the_average() -> None:
    # by hand: hours 1, 2, 2 and the median of the known, 2; prices 4, 8, 2, 2 average 4; losses 0, 0, 1 − 0.5² twice
    rates = {"cloud": Rate(4.0, 100.0, 0.0), "spot": Rate(1.0, 0.0, 0.5)}
    request = request_for(1, POOLS, histories_of(4, elapsed_s=[3600, 7200, 7200, np.nan]))
    assert Cost(1, 0, 0, rates).costs(request).tolist() == pytest.approx([1.0, 2.0, 0.5, 0.5])
    assert Cost(0, 0, 1, rates).costs(request).tolist() == pytest.approx([100 / 75, 200 / 75, 0.0, 0.0])
    assert Cost(0, 2, 0, rates).costs(request).tolist() == pytest.approx([0.0, 0.0, 4.0, 4.0])


def test_what_an_update_costs_before_anybody_was_timed_hangs_on_the_machine() -> None:
    rates = {"cloud": Rate(price=1.0), "spot": Rate(price=1.0)}
    request = request_for(1, POOLS, histories_of(4, flops=[1e9, 2e9, 2e9, 4e9]))
    assert Cost(1, 0, 0, rates).costs(request).tolist() == pytest.approx([16 / 9, 8 / 9, 8 / 9, 4 / 9])
    assert [choice.client for choice in Cost(1, 0, 0, rates)(request)] == ["spot/1"]


def test_the_cheapest_are_asked_unlike_in_a_random_draw() -> None:
    rates = {"cloud": Rate(price=4.0), "spot": Rate(price=1.0)}
    clients = (*names(10, "cloud"), *names(10, "spot"))
    choices = Cost(1, 0, 0, rates)(request_for(8, clients, histories_of(20)))
    assert all(choice.client.startswith("spot/") for choice in choices)
    assert choices[0].reason == "cost: among the cheapest 8 of 20 (1 an hour, 0 W, lost 0% of hours)"
    risky = Cost(1, 5, 0, {"cloud": Rate(price=4.0), "spot": Rate(price=1.0, interruptions=0.9)})
    assert all(choice.client.startswith("cloud/") for choice in risky(request_for(8, clients, histories_of(20))))


# --- power of choice --------------------------------------------------------------------------------------------------


def test_of_all_as_candidates_those_with_the_largest_loss_are_asked() -> None:
    losses = [0.5, 2.0, np.nan, 1.0, 3.0, 0.1]
    choices = PowerOfChoice(6)(request_for(3, names(6), histories_of(6, loss=losses, examples=10)))
    assert [choice.client for choice in choices] == ["a/1", "a/2", "a/4"]
    assert choices[1].reason == "power of choice: of 6 candidates one whose loss is not known yet"
    assert choices[2].reason == "power of choice: of 6 candidates one with the largest loss"


def test_candidates_are_drawn_by_their_share_of_the_data() -> None:
    base = request_for(1, names(3), histories_of(3, examples=[100, 200, 300], loss=1.0))
    found = Counter(choice.client for number in range(6000) for choice in PowerOfChoice(1)(replace(base, round=number)))
    for client, odds in zip(names(3), (1 / 6, 2 / 6, 3 / 6), strict=True):
        assert abs(found[client] / 6000 - odds) < 4 * (odds * (1 - odds) / 6000) ** 0.5


def test_a_cohort_by_power_of_choice_has_more_loss_than_a_random_one() -> None:
    # Cho et al., section 3: larger d, more bias towards large losses; d = m is the unbiased draw by data share
    losses = np.linspace(0, 1, 100)
    histories = histories_of(100, loss=losses, examples=10)

    def mean(selector: Selector) -> float:
        rounds = [request_for(10, names(100), histories, number) for number in range(1, 200)]
        return float(np.mean([losses[int(choice.client[2:])] for each in rounds for choice in selector(each)]))

    random, same, default, wide = (
        mean(each) for each in (SELECTORS["Random"], PowerOfChoice(10), PowerOfChoice(None), PowerOfChoice(50))
    )
    assert abs(random - 0.5) < 0.03
    assert abs(same - 0.5) < 0.03
    assert same + 0.15 < default < wide - 0.1


# --- contribution -----------------------------------------------------------------------------------------------------


def test_clients_are_drawn_in_proportion_to_their_history() -> None:
    # 6, 3 and, not heard of yet, 1
    base = request_for(1, names(3), histories_of(3, moved=[12.0, 3.0, 0.0], moved_weight=[2.0, 1.0, 0.0]))
    found = Counter(
        choice.client for number in range(6000) for choice in ContributionHistory(0.0)(replace(base, round=number))
    )
    for client, odds in zip(names(3), (0.6, 0.3, 0.1), strict=True):
        assert abs(found[client] / 6000 - odds) < 4 * (odds * (1 - odds) / 6000) ** 0.5


def test_a_share_of_the_cohort_is_drawn_evenly() -> None:
    histories = histories_of(20, moved=[1.0] * 10 + [1e-12] * 10, moved_weight=1.0)

    def small(exploration: float) -> float:
        rounds = [request_for(5, names(20), histories, number) for number in range(300)]
        chosen = [choice for each in rounds for choice in ContributionHistory(exploration)(each)]
        return sum(int(choice.client[2:]) >= 10 for choice in chosen) / len(chosen)

    assert small(0.0) == 0.0
    assert small(1.0) == pytest.approx(0.5, abs=0.06)
    assert 0.05 < small(0.1) < 0.1  # one place in ten, and evenly is also among the others
