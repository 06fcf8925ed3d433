"""A site's audit log: whole lines, only ever more of them, and an error where one can't be written."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from muster.audit import AuditLog, moment
from muster.errors import DataError


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_an_event_in_the_order_of_writing(tmp_path):
    path = tmp_path / "deep" / "audit.jsonl"
    log = AuditLog(path)
    log.write("offered", 1_800_000_000.5, job="lab/heart", reasons=["a", "b"])
    log.write("sent", 1_800_000_001.0, bytes=12, metrics={"loss": 0.5})
    log.close()
    assert lines(path) == [
        {"time": "2027-01-15T08:00:00.500Z", "event": "offered", "job": "lab/heart", "reasons": ["a", "b"]},
        {"time": "2027-01-15T08:00:01.000Z", "event": "sent", "bytes": 12, "metrics": {"loss": 0.5}},
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert moment(0) == "1970-01-01T00:00:00.000Z"


def test_what_was_there_stays_and_a_torn_line_is_ended(tmp_path):
    path = tmp_path / "audit.jsonl"
    path.write_text('{"event": "old"}\n{"event": "to')
    AuditLog(path).write("new", 0.0)
    first, torn, last = path.read_text().splitlines()
    assert (first, torn) == ('{"event": "old"}', '{"event": "to')
    assert json.loads(last)["event"] == "new"


def test_processes_that_write_at_once_tear_no_line(tmp_path):
    path = tmp_path / "audit.jsonl"
    script = (
        "import sys; from pathlib import Path; from muster.audit import AuditLog\n"
        "log = AuditLog(Path(sys.argv[1]))\n"
        "for number in range(50): log.write(sys.argv[2], 0.0, number=number, filling='x' * 2000)"
    )
    both = [subprocess.Popen([sys.executable, "-c", script, path, name]) for name in ("a", "b")]
    assert [process.wait(60) for process in both] == [0, 0]
    written = lines(path)
    assert [line["number"] for line in written if line["event"] == "a"] == list(range(50))
    assert len(written) == 100


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full is Linux's")
def test_a_line_that_cant_be_written_is_an_error(tmp_path):
    full = tmp_path / "audit.jsonl"
    full.symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"the audit log .*: No space left"):
        AuditLog(full).write("sending", 0.0)
    with pytest.raises(DataError, match="the audit log"):
        AuditLog(tmp_path / "audit.jsonl" / "below")
