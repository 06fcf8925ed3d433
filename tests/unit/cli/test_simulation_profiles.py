"""Profiles as text, and what each client gets of them."""

import math
from collections import Counter

import pytest

from muster_cli.errors import BadInput
from muster_cli.simulation.fleet import Presence, build_fleet
from muster_cli.simulation.profile import Machine, Profile, Tier, parse_table, parse_tiers, read_profile, shipped

CLIENTS = [f"p/{index}" for index in range(60)]


def test_what_is_shipped_can_be_read_and_says_what_it_is():
    assert shipped() == ["biased", "dropouts", "even", "tiers", "volatile"]
    for name in shipped():
        profile = read_profile(name)
        assert profile.name == name
        assert profile.about
        assert sum(tier.share for tier in profile.tiers) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{name: x}", "name tiers or machines"),
        ("{name: x, tiers: [{tier: a, share: 1, sped: 2}]}", "sped"),
        ("{name: x, tiers: [{tier: a, share: 1, dropout: 1.5}]}", "dropout"),
        ("{name: x, tiers: [{tier: a, share: 0}]}", "share"),
        ("{name: x, tiers: [{tier: a, share: 1, onSeconds: 5}]}", "given together"),
        ("{name: x, inOrder: true, machines: [{tier: a}]}", "inOrder is for tiers"),
        ("{name: x, tiers: [", "my.yaml"),
    ],
)
def test_a_bad_profile_is_refused_with_its_place(text, complaint):
    with pytest.raises(BadInput, match=complaint):
        parse_tiers(text, "my.yaml")


def test_a_table_has_a_line_for_each_client():
    profile = parse_table("tier,speed,upMbit,dropout\nfast,8,100,\nslow,0.5,,0.2\n", "own/mine.csv")
    assert profile.name == "mine"
    assert profile.machines == (
        Machine(tier="fast", speed=8, up_mbit=100),
        Machine(tier="slow", speed=0.5, dropout=0.2),
    )
    tiers = [nature.tier for nature in build_fleet(profile, CLIENTS[:3], seed=1)]
    assert tiers == ["fast", "slow", "fast"]


@pytest.mark.parametrize("text", ["tier,speed\nfast,very\n", "tier,spede\nfast,1\n", "speed\n1\n", "tier,speed\n"])
def test_a_bad_table_is_refused(text):
    with pytest.raises(BadInput, match=r"mine\.csv"):
        parse_table(text, "mine.csv")


def test_a_profile_that_is_nowhere_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(BadInput, match="even, tiers"):
        read_profile("nothing")
    with pytest.raises(BadInput, match="can't be read"):
        read_profile(str(tmp_path / "gone.csv"))


def profile_of(**tier):
    usual = {"tier": "a", "share": 1.0}
    return Profile(name="p", tiers=(Tier(**(usual | tier)),))


def test_tiers_get_their_shares_in_an_order_by_lot():
    profile = read_profile("tiers")
    one, again, other = (build_fleet(profile, CLIENTS, seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    for fleet in (one, other):
        counts = Counter(nature.tier for nature in fleet)
        assert counts == {"cloud-gpu": 12, "cloud-cpu": 21, "hpc-gpu": 9, "hpc-cpu": 18}


def test_tiers_in_order_are_of_the_same_clients_under_every_seed():
    profile = read_profile("biased")
    for seed in (1, 2):
        fleet = build_fleet(profile, CLIENTS, seed)
        slow = [nature.client for nature in fleet if nature.tier == "cloud-cpu"]
        assert slow == CLIENTS[-18:]
    assert min(tier.speed for tier in profile.tiers) == profile.tiers[-1].speed


def test_machines_of_a_tier_differ_as_much_as_it_says():
    (same, *_) = {n.step_s for n in build_fleet(profile_of(speed=2.0), CLIENTS, 1)}
    assert same == 0.05 / 2
    spread = [math.log(n.step_s / same) for n in build_fleet(profile_of(speed=2.0, spread=0.3), CLIENTS * 10, 1)]
    assert len(set(spread)) == len(CLIENTS)  # by the client's name, not by its place
    fleet = build_fleet(profile_of(spread=0.3), [f"p/{index}" for index in range(1000)], 1)
    logs = [math.log(nature.step_s / 0.05) for nature in fleet]
    assert math.sqrt(sum(each * each for each in logs) / len(logs)) == pytest.approx(0.3, rel=0.1)


def test_luck_hangs_on_names_and_not_on_the_order_of_asking():
    (nature,) = build_fleet(profile_of(jitter=0.5, dropout=0.2), CLIENTS[:1], 1)
    first = [(nature.pace(f"{r}.0.p/0"), nature.drops_out_at(f"{r}.0.p/0")) for r in range(50)]
    again = [(nature.pace(f"{r}.0.p/0"), nature.drops_out_at(f"{r}.0.p/0")) for r in reversed(range(50))]
    assert first == again[::-1]
    assert len({pace for pace, _ in first}) == 50


def test_dropouts_come_as_often_as_the_profile_says():
    fleet = build_fleet(profile_of(dropout=0.2), [f"p/{index}" for index in range(2000)], 1)
    gone = [at for nature in fleet if (at := nature.drops_out_at("1.0.x")) is not None]
    assert len(gone) / 2000 == pytest.approx(0.2, abs=0.03)
    assert sum(gone) / len(gone) == pytest.approx(0.5, abs=0.05)


def test_clients_come_and_go_in_stretches_of_the_given_means():
    fleet = build_fleet(profile_of(on_seconds=300.0, off_seconds=100.0), [f"p/{index}" for index in range(2000)], 1)
    stays = [Presence(nature).stay() for nature in fleet]
    assert sum(stay for stay, _ in stays) / 2000 == pytest.approx(300, rel=0.1)
    assert sum(away for _, away in stays) / 2000 == pytest.approx(100, rel=0.1)
    assert sum(Presence(nature).first_absence_s() > 0 for nature in fleet) / 2000 == pytest.approx(0.25, abs=0.03)


def test_whoever_is_always_there_stays_for_good():
    (nature,) = build_fleet(profile_of(), CLIENTS[:1], 1)
    assert Presence(nature).first_absence_s() == 0
    assert Presence(nature).stay()[0] == math.inf


def test_preemptions_come_by_the_hour():
    profile = profile_of(preemptions_per_hour=2.0, away_seconds=30.0)
    stays = [Presence(n).stay() for n in build_fleet(profile, [f"p/{index}" for index in range(2000)], 1)]
    assert sum(stay for stay, _ in stays) / 2000 == pytest.approx(1800, rel=0.1)
    assert {away for _, away in stays} == {30.0}
