"""docs/decisions: each decision has a number of its own, in its name and in its title."""

from pathlib import Path

DECISIONS = Path(__file__).parents[2] / "docs" / "decisions"


def test_decisions_are_numbered_without_gaps_or_doubles():
    files = sorted(DECISIONS.glob("*.md"))
    assert [int(file.name[:3]) for file in files] == list(range(1, len(files) + 1))
    for file in files:
        assert file.read_text().startswith(f"# {file.name[:3]}: "), file.name
