"""Lines of logs: what they say, and where each field comes from."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from muster_telemetry.logs import JsonFormatter, bound, log_format_of, message_of, start_logging

log = logging.getLogger("muster.test")


@pytest.fixture(autouse=True)
def _root_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in [each for each in root.handlers if each not in handlers]:
        root.removeHandler(handler)
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_one_object_with_what_the_process_the_work_and_the_call_know(
    capsys: pytest.CaptureFixture[str],
) -> None:
    start_logging("json", fields={"namespace": "lab", "job": "digits"})
    with bound(round=3, client="p/1"):
        log.warning("%d things\nin two lines", 2, extra={"client": "p/2", "pool": "p"})
    [line] = lines(capsys)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning",
        "logger": "muster.test",
        "message": "2 things\nin two lines",
        "namespace": "lab",
        "job": "digits",
        "round": 3,
        "client": "p/2",
        "pool": "p",
    }


def test_an_exception_is_a_field_and_not_more_lines(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging("json")
    try:
        int("it broke")
    except ValueError:
        log.exception("told")
    [line] = lines(capsys)
    assert line["message"] == "told"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("'it broke'")


def test_tasks_at_once_do_not_mix_up_whose_lines_are_whose(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging("json")

    async def work(name: str) -> None:
        with bound(job=name):
            await asyncio.sleep(0)
            log.info("at work")

    async def both() -> None:
        await asyncio.gather(work("a"), work("b"))

    asyncio.run(both())
    assert sorted(line["job"] for line in lines(capsys)) == ["a", "b"]


def test_starting_again_takes_the_place_of_the_first_and_leaves_the_handlers_of_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    others = logging.getLogger().handlers[:]
    start_logging("text")
    start_logging("json")
    log.info("once")
    assert len(lines(capsys)) == 1
    assert logging.getLogger().handlers[: len(others)] == others


def test_text_is_what_people_are_used_to(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging("text")
    log.info("hello")
    assert capsys.readouterr().err.endswith(" INFO hello\n")


def test_levels_below_are_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging("json", level=logging.WARNING)
    log.info("not this")
    assert lines(capsys) == []


def test_what_is_no_json_becomes_text() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "m", None, None)
    record.round = sys
    assert json.loads(JsonFormatter({}).format(record))["round"] == str(sys)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"level": "error", "message": "no room"}', "no room"),
        ('{"no": "log line"}', '{"no": "log line"}'),
        ("[1]", "[1]"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_the_message_of_a_line_of_either_kind(line: str, message: str) -> None:
    assert message_of(line) == message


def test_the_environment_chooses_and_a_mistake_is_named() -> None:
    assert log_format_of({}) == "text"
    assert log_format_of({"MUSTER_LOG_FORMAT": "json"}) == "json"
    with pytest.raises(ValueError, match="MUSTER_LOG_FORMAT: 'xml' is not one of text, json"):
        log_format_of({"MUSTER_LOG_FORMAT": "xml"})
