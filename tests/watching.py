"""A real Prometheus for tests: it scrapes what it is told, evaluates the chart's rules, and is asked over HTTP.

Rules are the chart's own files, with their patience taken away: `for` is nothing, ranges are seconds. What a test needs
shortened beyond that (a threshold in seconds) it says itself. promtool tests the rules as they are.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
RULES = sorted((ROOT / "helm" / "muster" / "rules").glob("*.yaml"))
DASHBOARDS = sorted((ROOT / "helm" / "muster" / "dashboards").glob("*.json"))
GIVE_UP_S = 60.0
SHORT = "12s"


def need(program: str) -> str:
    """Where it is; a test that needs it is skipped without it, or fails where MUSTER_REQUIRE says so."""
    found = shutil.which(program)
    if found:
        return found
    reason = f"there is no {program} on this machine; scripts/prometheus installs it (Debian's package)"
    if "prometheus" in os.environ.get("MUSTER_REQUIRE", "").split(","):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def alerts() -> list[dict[str, Any]]:
    """Every alert of the chart."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def queries(dashboard: Path) -> Iterator[tuple[str, str]]:
    """Panel and query, of all panels."""
    for panel in json.loads(dashboard.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def impatient(expression: str) -> str:
    """The same with ranges of seconds."""
    return re.sub(r"\[\d+m(?::\d+s)?\]", lambda found: f"[{SHORT}:1s]" if ":" in found[0] else f"[{SHORT}]", expression)


def hasty_rules(shorter: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """All rules in one file; `shorter`: alert → what is replaced in its expression, and by what."""
    rules = []
    for alert in alerts():
        expression = alert["expr"]
        if alert["alert"] in shorter:
            long, short = shorter[alert["alert"]]
            assert long in expression, f"{alert['alert']} has no {long!r} any more"
            expression = expression.replace(long, short)
        rules.append({"alert": alert["alert"], "expr": impatient(expression)})
    return {"groups": [{"name": "hasty", "interval": "1s", "rules": rules}]}


@dataclass
class Prometheus:
    """One that runs."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query."""
        answer = self._ask("query", query=expression)
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def until(self, expression: str, within_s: float = GIVE_UP_S) -> list[dict[str, Any]]:
        """Its samples, once there are any."""
        return self._wait(lambda: self.query(expression), f"{expression} has no data", within_s)

    def until_fires(self, alert: str, within_s: float = GIVE_UP_S, **labels: str) -> None:
        """Until an alert with these labels fires."""
        selector = ", ".join(f'{name}="{value}"' for name, value in {"alertname": alert, **labels}.items())
        self.until(f'ALERTS{{{selector}, alertstate="firing"}}', within_s)

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        return {one["metric"]["alertname"] for one in self.query('ALERTS{alertstate="firing"}')}

    def _wait(self, look: Any, what: str, within_s: float) -> Any:
        deadline = time.monotonic() + within_s
        while not (found := look()):
            assert time.monotonic() < deadline, what
            time.sleep(0.3)
        return found

    def _ask(self, what: str, **parameters: str) -> Any:
        url = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 - our own
            return json.load(answer)


@contextmanager
def prometheus(
    folder: Path, targets: Mapping[str, str], shorter: Mapping[str, tuple[str, str]] | None = None
) -> Iterator[Prometheus]:
    """A Prometheus that scrapes these targets (name → host:port) each second, and adds a namespace as monitors do."""
    program = need("prometheus")
    folder.mkdir(exist_ok=True)
    (folder / "rules.yaml").write_text(yaml.safe_dump(hasty_rules(shorter or {})))
    scrapes = [
        {
            "job_name": name,
            "honor_labels": True,
            "static_configs": [{"targets": [target], "labels": {"namespace": "default"}}],
        }
        for name, target in targets.items()
    ]
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": scrapes,
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [program, f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        running = Prometheus(f"http://{address}")
        running._wait(lambda: _is_ready(running), (folder / "prometheus.log").read_text(), GIVE_UP_S)
        yield running
    finally:
        process.kill()
        process.wait()


def _is_ready(running: Prometheus) -> bool:
    try:
        with urllib.request.urlopen(f"{running.url}/-/ready", timeout=5) as answer:  # noqa: S310 - our own
            return bool(answer.status == 200)
    except OSError:
        return False


def free_port() -> int:
    """One that nobody listens at just now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port
