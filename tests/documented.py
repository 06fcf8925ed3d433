"""The commands that the documentation shows: fenced ``sh`` blocks, and the comment before each that says how it is run.

``<!-- run with: ARGUMENTS -->``   run by tests/integration/test_docs.py, with these arguments for each `muster run`
``<!-- not run: why -->``          by nobody
``<!-- not run here: … -->``       by tests/cluster/test_real_pods.py, on real nodes
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("examples/*/README.md"))]
_BLOCK = re.compile(
    r"(?:<!-- (?P<marker>(?:(?!-->).)*) -->\n)?^```sh\n(?P<commands>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A fenced block, the page that it is on, and what the comment before it says."""

    page: str
    marker: str
    commands: tuple[str, ...]

    @property
    def is_run_anywhere(self) -> bool:
        return not self.marker.startswith("not run")

    @property
    def is_run_on_nodes(self) -> bool:
        return self.marker.startswith("not run here:")

    def lines(self) -> Iterator[str]:
        """The commands, without what is said about them, with the comment's arguments."""
        extra = self.marker.removeprefix("run with:").strip() if self.marker.startswith("run with:") else ""
        for command in self.commands:
            bare = command.partition("  #")[0].strip()
            yield f"{bare} {extra}" if bare.startswith("muster run ") else bare


def blocks() -> Iterator[Block]:
    """All of them, in the order of the pages and in them."""
    for page in PAGES:
        for match in _BLOCK.finditer(page.read_text()):
            commands = tuple(line for line in match["commands"].splitlines() if line.strip())
            yield Block(str(page.relative_to(ROOT)), match["marker"] or "", commands)
