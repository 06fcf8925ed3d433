"""The runner's ends of its bridges: one child process for each pool whose workers are SLURM's jobs.

Like the other children they are only listened to when a pipe has something, and the session decides who comes back. A
bridge speaks with the coordinator itself; at the end it is given the time it takes to cancel what is left.
"""

from __future__ import annotations

import json
import select
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from muster_cli.processes import Child
from muster_cli.site import Site, bridge_of
from muster_cli.view import Event

LEAVE_WITHIN_S = 75.0  # a little longer than a bridge itself tries


class Bridges:
    """All of a run; none where the workers are local."""

    def __init__(self, site: Site | None) -> None:
        self._site = site
        self._pools = {bridge_of(pool): pool for pool in site.pools} if site else {}
        self._children: dict[str, Child] = {}
        self._port = 0

    def __iter__(self) -> Iterator[Child]:
        return iter(self._children.values())

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._pools)

    def start_all(self, port: int) -> None:
        """The coordinator listens on this port."""
        self._port = port
        for name in self._pools:
            self.start(name)

    def start(self, name: str) -> None:
        """Start a bridge, for the first time or again."""
        if self._site is not None:
            self._children[name] = self._site.start_bridge(self._pools[name], self._port)

    def hear(self, readable: Sequence[Any], tell: Callable[[Event], None]) -> list[tuple[str, int]]:
        """Pass on what bridges say; those that have ended, with their exit codes."""
        ended = []
        for name, child in [*self._children.items()]:
            if child not in readable:
                continue
            lines = child.read_lines()
            if lines is None:
                del self._children[name]
                ended.append((name, child.end(1.0)))
                continue
            for line in lines:
                tell(json.loads(line))
        return ended

    def end(self, tell: Callable[[Event], None], *, is_over: bool) -> None:
        """Have everything cancelled that is left in SLURM. After a job's own end its workers leave by themselves."""
        for child in self:
            if is_over:
                child.write_line(b'{"over": true}')
            else:
                child.hang_up()
        deadline = time.monotonic() + LEAVE_WITHIN_S
        while self._children and (left_s := deadline - time.monotonic()) > 0:
            readable, _, _ = select.select([*self], [], [], left_s)
            self.hear(readable, tell)
        for child in self:
            child.end(0.0)
        self._children.clear()
