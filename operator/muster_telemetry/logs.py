"""Logs: plain lines for people, or one JSON object a line for machines that collect them.

A line of JSON says where it belongs (namespace, job, round, client, pool) as far as that is known. Fields come from
three places, and the nearest one wins: from the process, given to `start_logging`; from the work at hand, `bound`
around it, which follows asyncio's tasks; from the one line, logged with `extra=`.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TextIO, TypeAlias, get_args

LogFormat: TypeAlias = Literal["text", "json"]
LOG_FORMATS: tuple[LogFormat, ...] = get_args(LogFormat)
LOG_FORMAT = "MUSTER_LOG_FORMAT"

FIELDS = ("namespace", "job", "round", "client", "pool")
_TEXT = "%(asctime)s %(levelname)s %(message)s"

_bound: ContextVar[Mapping[str, object] | None] = ContextVar("muster_log_fields", default=None)


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Every line that is logged meanwhile, here and in tasks begun here, belongs to this namespace, job, round …"""
    token = _bound.set({**(_bound.get() or {}), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


class JsonFormatter(logging.Formatter):
    """One JSON object a record. `fields` are those of the process."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._fields,
            **(_bound.get() or {}),
            **{name: value for name in FIELDS if (value := getattr(record, name, None)) is not None},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, ensure_ascii=False, default=str)


class _OurHandler(logging.StreamHandler[TextIO]):
    """Told apart from those that others (a test runner) have put there."""


def start_logging(
    log_format: LogFormat, *, level: int = logging.INFO, fields: Mapping[str, object] | None = None
) -> logging.Handler:
    """All logs of this process, those of libraries too, to standard error. Said again, it takes the place of before."""
    handler = _OurHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(fields or {}) if log_format == "json" else logging.Formatter(_TEXT))
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _OurHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    return handler


def log_format_of(environment: Mapping[str, str] = os.environ) -> LogFormat:
    """What MUSTER_LOG_FORMAT asks for. Raises ValueError, naming it."""
    given = environment.get(LOG_FORMAT) or "text"
    for known in LOG_FORMATS:
        if given == known:
            return known
    raise ValueError(f"{LOG_FORMAT}: {given!r} is not one of {', '.join(LOG_FORMATS)}")


def message_of(line: str) -> str:
    """What a line of either kind says, for people: of a JSON line its message, any other as it is."""
    try:
        value: Any = json.loads(line)
    except ValueError:
        return line
    return str(value["message"]) if isinstance(value, dict) and "message" in value else line
