"""1,000 connected clients with a 100 kB model: full rounds with all of them, what they take, and the server's memory.

The coordinator is a process of its own. Clients are rehearsal workers, each with a connection of its own and one of its
own sessions, spread over a few processes; between rounds all listen. Memory is the coordinator's RssAnon: idle, with
everybody connected, and at its highest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "transports"))

from coordinator import POOL, TOKEN, Coordinator, coordinator

from muster_coordinator.rehearsal import Drift, RehearsalWorker

PROCESSES = 4
EARLY = 3  # rounds more than count: the first ones may begin before everybody is connected
FILES = 8192  # two a connection, and what else there is


def memory_mb(pid: int, kind: str = "RssAnon") -> float:
    """Of a process, now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1000


def work(address: str, indices: range, weights: int) -> None:
    """So many clients, until the job is over."""
    asyncio.run(_work(address, indices, weights))


async def _work(address: str, indices: range, weights: int) -> None:
    workers = [RehearsalWorker(address, TOKEN, POOL, [index], Drift(weights), f"w{index}") for index in indices]
    await asyncio.gather(*(worker.run() for worker in workers))


def watched(running: Coordinator, clients: int, seen: dict[str, float]) -> Iterator[dict[str, Any]]:
    """Its events; `seen` gets its memory at the first plan, when all are connected, and the most there was."""
    for event in running.events():
        now = memory_mb(running.process.pid)
        if event["event"] == "planned" and len(event["cohort"]) == clients:
            seen.setdefault("connected_mb", now)
        seen["peak_mb"] = max(seen.get("peak_mb", 0.0), now)
        yield event


def measure(clients: int, rounds: int, model_kb: int) -> dict[str, float]:
    """Seconds a round, and memory."""
    fork = multiprocessing.get_context("fork")
    seen: dict[str, float] = {}
    with coordinator(clients, rounds + EARLY) as running:
        seen["idle_mb"] = memory_mb(running.process.pid)
        parts = [range(start, clients, PROCESSES) for start in range(PROCESSES)]
        arguments = [(running.address, part, model_kb * 250) for part in parts]
        processes = [fork.Process(target=work, args=each) for each in arguments]
        for process in processes:
            process.start()
        commits = [event for event in watched(running, clients, seen) if event["event"] == "committed"]
        for process in processes:
            process.join(10)
            process.kill()
    full = [commit["seconds"] for commit in commits if commit["used"] == clients]
    if len(full) < rounds:
        used = [commit["used"] for commit in commits]
        raise SystemExit(f"{rounds} rounds should have had all {clients} clients: {used}")
    return {"round_seconds": statistics.median(full[-rounds:]), "rounds": rounds, **seen}


def main() -> None:
    """Measure and say it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model-kb", type=int, default=100)
    given = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most if most != resource.RLIM_INFINITY else FILES, most))
    found = measure(given.clients, given.rounds, given.model_kb)
    print(
        f"{given.clients} clients, {given.model_kb} kB: {found['round_seconds']:.2f} s a round; coordinator "
        f"{found['idle_mb']:.0f} MB idle, {found['connected_mb']:.0f} with all, at most {found['peak_mb']:.0f}"
    )
    print(json.dumps({"clients": given.clients} | {name: round(value, 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
