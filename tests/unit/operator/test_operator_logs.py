"""kopf's own log lines say where they belong, as ours do."""

from __future__ import annotations

import json
import logging

import pytest

from muster_operator.handlers import place_kopf_line
from muster_telemetry.logs import JsonFormatter


def kopf_line(kind: str) -> dict[str, object]:
    record = logging.LogRecord("kopf.objects", logging.WARNING, "", 0, "slow", None, None)
    record.k8s_ref = {"kind": kind, "name": "digits", "namespace": "lab", "uid": "1"}
    assert place_kopf_line(record)
    line: dict[str, object] = json.loads(JsonFormatter({}).format(record))
    return line


@pytest.mark.parametrize(("kind", "job"), [("FederatedJob", "digits"), ("Pod", None)])
def test_a_line_about_an_object_has_its_namespace_and_its_job(kind: str, job: str | None) -> None:
    line = kopf_line(kind)
    assert line["namespace"] == "lab"
    assert line.get("job") == job


def test_other_lines_pass_as_they_are() -> None:
    record = logging.LogRecord("kopf", logging.INFO, "", 0, "hello", None, None)
    assert place_kopf_line(record)
    assert "job" not in json.loads(JsonFormatter({}).format(record))
