"""Dashboards and alerts against what the code serves: every metric is one that exists, every alert has its runbook."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from muster.metrics import WorkerMetrics
from muster_coordinator.metrics.families import COUNTERS, GAUGES, HISTOGRAMS, READ_COUNTERS
from muster_operator.metrics import OperatorMetrics, Sights
from muster_slurm import metrics as slurm
from watching import DASHBOARDS, ROOT, alerts, queries

EXPRESSIONS = [
    *((f"{path.stem}: {title}", query) for path in DASHBOARDS for title, query in queries(path)),
    *((alert["alert"], alert["expr"]) for alert in alerts()),
]


def served() -> set[str]:
    """The names of all series."""
    metrics = OperatorMetrics()
    metrics.look_at(Sights(lambda: True, dict, dict, dict))
    bridge = slurm.BridgeMetrics({})
    bridge.look_at(slurm.Sights(0, dict, lambda: False))
    kinds = {
        metric.name: metric.type for each in (metrics, bridge, WorkerMetrics({})) for metric in each.registry.collect()
    }
    kinds |= dict.fromkeys([*COUNTERS, *READ_COUNTERS], "counter") | dict.fromkeys(GAUGES, "gauge")
    kinds |= dict.fromkeys(HISTOGRAMS, "histogram") | {"muster_build": "info"}
    endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"], "gauge": [""]}
    return {name + ending for name, kind in kinds.items() for ending in endings[kind]}


@pytest.mark.parametrize(("place", "expression"), EXPRESSIONS, ids=[place for place, _ in EXPRESSIONS])
def test_only_metrics_that_are_served_are_looked_at(place: str, expression: str) -> None:
    without_strings = re.sub(r'"[^"]*"', "", expression)
    names = set(re.findall(r"\b(?:muster|process)_\w+", without_strings))
    assert names, place
    assert {name for name in names if name.startswith("muster_")} <= served()


def test_the_dashboards_are_what_their_script_writes() -> None:
    script = ROOT / "scripts" / "make_dashboards.py"
    checked = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_every_alert_says_how_bad_it_is_and_what_to_do(alert: dict) -> None:  # type: ignore[type-arg]
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    page, _, heading = alert["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^### (\w+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert heading == alert["alert"].lower()
    assert alert["alert"] in headings
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["description"]


def test_no_runbook_is_left_of_an_alert_that_is_gone() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    assert set(re.findall(r"^### (\w+)$", text, re.MULTILINE)) == {alert["alert"] for alert in alerts()}


def test_queries_do_not_ask_for_labels_that_prometheus_keeps_for_itself() -> None:
    for place, expression in EXPRESSIONS:
        assert not re.search(r"\bjob=", expression), f"{place}: a FederatedJob is fedjob=…"


def test_panels_lie_side_by_side_and_not_on_one_another() -> None:
    for path in DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(path.read_text())["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, panel["title"]
            assert max(x for x, _ in cells) < 24
            taken |= cells
