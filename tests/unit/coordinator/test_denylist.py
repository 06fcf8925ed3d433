"""Deny lists: what an entry means, and that a list which can't be read never lets anybody back in."""

import pytest

from muster_coordinator.denylist import DenyList, parse_deny_list
from muster_coordinator.errors import InputError
from muster_wire.errors import TrustError
from muster_wire.trust.certificate import Certificate
from muster_wire.trust.files import write_private
from muster_wire.trust.identity import parse_identity


def certificate(uri="muster://job-1/p/3", serial=0xBEEF, origin=None):
    return Certificate(parse_identity(uri), serial, origin, 0.0, 1e12)


@pytest.mark.parametrize(
    ("entry", "denied"),
    [
        ("beef", True),
        ("00:BE:EF", True),
        ("cafe", False),
        ("muster://job-1/p", True),
        ("muster-join://job-1/p", True),
        ("muster://job-1/p/3", True),
        ("muster://job-1/p/4", False),
        ("muster://job-1/q", False),
        ("muster://job-2/p", False),
        ("# beef", False),
        ("cafe # beef", False),
        ("", False),
    ],
)
def test_an_entry_denies_whom_it_names(entry, denied):
    assert parse_deny_list(f"# a list\n\n  {entry}\n").refuses(certificate()) is denied


def test_a_join_credential_denies_what_came_of_it():
    assert parse_deny_list("beef").refuses(certificate(serial=1, origin=0xBEEF))
    assert not parse_deny_list("beef").refuses(certificate(serial=1, origin=2))


@pytest.mark.parametrize("line", ["p/3", "muster://job-1/p/03", "beef beef", "0x12", "f" * 41, "é"])
def test_a_line_that_means_nothing_is_named(line):
    with pytest.raises(TrustError, match="line 2: "):
        parse_deny_list(f"beef\n{line}\n")


def test_a_list_follows_its_file_and_forgets_nobody_over_a_mistake(tmp_path, caplog):
    path = tmp_path / "denied"
    path.write_text("")
    denied = DenyList(path)
    assert not denied.refuses(certificate())
    for content, refused in [(b"beef\n", True), (b"nonsense\n", True), (b"\xff\n", True), (b"cafe\n", False)]:
        write_private(path, content)
        assert denied.refuses(certificate()) is refused, content
    write_private(path, b"beef\n")
    assert denied.refuses(certificate())
    path.unlink()
    assert denied.refuses(certificate())
    assert caplog.text.count("what was denied before still is") == 3


def test_it_has_to_be_readable_to_begin_with(tmp_path):
    (tmp_path / "bad").write_text("nonsense")
    for name, words in (("none", "No such file"), ("bad", "line 1")):
        with pytest.raises(InputError, match=f"--deny-list {tmp_path / name}: {words}"):
            DenyList(tmp_path / name)
    assert not DenyList(None).refuses(certificate())
