"""The parts of the chart that are made from something else are what they would be made now. No helm is needed here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "muster"


def test_resources_and_table_are_up_to_date() -> None:
    script = ROOT / "scripts" / "manifests"
    command = [sys.executable, str(script), "--check", "--without-helm"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_the_chart_has_the_same_resources_as_the_project() -> None:
    ours = {path.name: path.read_bytes() for path in (ROOT / "crds").iterdir()}
    assert {path.name: path.read_bytes() for path in (CHART / "files" / "crds").iterdir()} == ours


def test_every_value_stands_in_the_table() -> None:
    readme = (CHART / "README.md").read_text()
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert [name for name in leaves(values, "") if f"| `{name}` |" not in readme] == []


def leaves(value: object, path: str) -> list[str]:
    """Of a value that is given whole, such as labels or resources, the value itself."""
    whole = {"resources", "lobby.resources", "dashboards.labels"}
    if not isinstance(value, dict) or not value or path in whole:
        return [path]
    return [leaf for name, each in value.items() for leaf in leaves(each, f"{path}.{name}".lstrip("."))]
