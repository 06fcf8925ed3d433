"""What the simulator and the crash benchmark are held against, and with which exit code they end."""

import pytest

import crash
import simulator
from simulations.reality import compared


def test_a_case_is_off_by_the_mean_over_its_rounds():
    found = compared([10.0, 10.0], [9.0, 12.0])
    assert found["simulated_seconds"] == 10.5
    assert found["off_percent"] == 5
    assert found["ci95"][0] < 5 < found["ci95"][1]
    assert found["rounds"] == 2
    with pytest.raises(ValueError, match="zip"):
        compared([10.0, 10.0], [9.0])


@pytest.mark.parametrize(("off", "code"), [((-15.0, 2.0), 0), ((-15.1, 2.0), 1), ((0.0, 15.1), 1)])
def test_a_simulation_too_far_from_reality_ends_with_1(off, code):
    reality = simulator.verdict({str(place): {"off_percent": each} for place, each in enumerate(off)})
    assert reality["within"] is not bool(code)
    assert simulator.exit_code({"benchmark": "simulator", "reality": reality}) == code


def test_a_cost_alone_has_no_bound():
    assert simulator.exit_code({"benchmark": "simulator", "cost": {}}) == 0


EQUAL = {"models_equal": True, "retrained": 0, "clients_that_remember": crash.WORKERS * crash.CLIENTS_OF_EACH}


def test_a_disturbed_run_has_to_be_equal_in_everything():
    assert crash.verdict(EQUAL, kills=5, wanted_kills=5)["holds"] is True
    assert crash.verdict(EQUAL, kills=4, wanted_kills=5)["holds"] is False
    for name, wrong in {"models_equal": False, "retrained": 1, "clients_that_remember": 0}.items():
        assert crash.verdict(EQUAL | {name: wrong}, kills=5, wanted_kills=5)["holds"] is False
