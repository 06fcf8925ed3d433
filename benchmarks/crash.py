"""Kill -9 for the coordinator, a hundred times at random moments of a job of thirty rounds, and what is left of it.

Updates leave most of themselves out and remember it (top-k and int8 with error feedback), models go out as a chain of
changes, and FedAdam keeps its moments with the model: whatever was lost or done twice would show. The same job then
runs undisturbed. Both have to agree to the bit: the rounds, every model, and what every client remembers.

    benchmarks/crash.py                          some ten minutes
    benchmarks/crash.py --kills 5 --rounds 4     a trial
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from coordinating import TOKEN, commits_in, coordinator, write_job  # noqa: E402 -- after the path
from muster.connection import Connection  # noqa: E402 -- likewise
from muster.credentials import Fixed, Material  # noqa: E402 -- likewise
from muster_coordinator.durable import unseal  # noqa: E402 -- likewise
from muster_coordinator.records import RoundCommit, RoundPlan  # noqa: E402 -- likewise
from remembering import Worker  # noqa: E402 -- likewise
from running import TASKS  # noqa: E402 -- likewise

KILLS, ROUNDS, SEED = 100, 30, 7
WORKERS, CLIENTS_OF_EACH, VALUES = 3, 2, 20_000
TRAINING_S = 0.5
COMING_BACK_S = 1.0  # of workers whose coordinator is there again
GIVE_UP_S = 600

SPEC: dict[str, Any] = {
    "task": {
        "entrypoint": "drifting:Drifting",
        "config": {"values": VALUES, "seconds": TRAINING_S},
        "source": {"type": "Path", "path": {"path": str(TASKS)}},
    },
    "strategy": {"type": "FedAdam"},
    "compression": {
        "up": {
            "codecs": [
                {"type": "TopK", "topK": {"share": 0.1, "momentum": 0.5, "warmUpRounds": 2}},
                {"type": "Int8"},
                {"type": "Lossless"},
            ]
        },
        "down": {"codecs": [{"type": "Int8"}, {"type": "Lossless"}]},
        "deltas": True,
    },
    "checkpoint": {"keep": 2},
}


@dataclass(frozen=True, slots=True)
class Left:
    """What a run left behind."""

    commits: list[RoundCommit]
    plans: list[RoundPlan]
    memories: dict[str, dict[str, bytes]]
    trainings: int
    kills: int
    seconds: float


class Deaths:
    """When each coordinator dies: at a moment by lot, so spread that all deaths fall within the job."""

    def __init__(self, kills: int, rounds: int) -> None:
        self.left = kills
        self._rounds = rounds
        self._lots = random.Random(SEED)

    def life_s(self, starting_s: float, committed: int) -> float:
        """How long the next one lives, from its birth on: some don't live to open their port."""
        a_death = (self._rounds - committed) / self.left * (TRAINING_S + 0.5)
        slack = COMING_BACK_S if a_death > 0.1 else 0.0
        return self._lots.uniform(0.0, 2 * (starting_s + slack + a_death))


def run(folder: Path, kills: int, rounds: int) -> Left:
    """The job from its first coordinator to its last one's end."""
    folder.mkdir()
    count = WORKERS * CLIENTS_OF_EACH
    job = write_job(folder, clients=count, rounds={"total": rounds, "deadlineSeconds": GIVE_UP_S}, **SPEC)
    address, before, began = f"127.0.0.1:{_free_port()}", _trainings(), time.monotonic()
    workers = [
        Worker(
            Connection(address, TOKEN, Fixed(Material())),
            tuple(range(first, first + CLIENTS_OF_EACH)),
            VALUES,
            GIVE_UP_S,
        )
        for first in range(0, count, CLIENTS_OF_EACH)
    ]
    died = _coordinators(folder, job, address, Deaths(kills, rounds))
    endings = [worker.join() for worker in workers]
    if any(ending is None or ending.code for ending in endings):
        raise RuntimeError(f"workers ended with {endings}")
    memories = {client: memory for worker in workers for client, memory in worker.memories().items()}
    storage = folder / "storage"
    plans = [unseal(path.read_bytes(), RoundPlan) for path in sorted((storage / "plans").glob("*.json"))]
    return Left(commits_in(storage), plans, memories, _trainings() - before, died, time.monotonic() - began)


def _coordinators(folder: Path, job: Path, address: str, deaths: Deaths) -> int:
    """One after the other on one storage; how many were killed."""
    died, starting_s = 0, 1.0
    while True:
        committed = len(list((folder / "storage" / "rounds").glob("*.json"))) - 1
        life_s = deaths.life_s(starting_s, max(committed, 0)) if deaths.left else None
        with coordinator(folder, job, address) as running:
            born = time.monotonic()
            if life_s is None:
                code = running.wait(GIVE_UP_S)
                if code:
                    raise RuntimeError(f"the last coordinator ended with {code}")
                return died
            ended = _lives(running, life_s)
            if listening := running.of("listening"):
                starting_s = max(0.2, listening[0]["time"] - time.time() + time.monotonic() - born)
            if ended:
                return died
            running.process.kill()
            running.wait()
        died += 1
        deaths.left -= 1


def _lives(running: Any, seconds: float) -> bool:
    """Whether it comes to its own end in this time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if running.process.poll() is not None:
            return True
        time.sleep(0.005)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _trainings() -> int:
    """Of all clients so far: the task is imported by the workers, when they have joined."""
    return int(sys.modules["drifting"].Drifting.trainings) if "drifting" in sys.modules else 0


def compared(disturbed: Left, calm: Left, rounds: int) -> dict[str, Any]:
    """What has to hold, and whether it does."""
    numbers = [commit.round for commit in disturbed.commits]
    asked = [[each.assignment for each in plan.cohort] for plan in disturbed.plans if plan.round]
    used = [[each.assignment for each in commit.used] for commit in disturbed.commits if commit.round]
    clients = WORKERS * CLIENTS_OF_EACH
    return {
        "no_gap_and_no_repeat": numbers == list(range(rounds + 1)),
        "every_update_counted_once": used == asked and len(asked) == rounds,
        "retrained": disturbed.trainings - rounds * clients,
        "models_equal": [c.model for c in disturbed.commits] == [c.model for c in calm.commits],
        "memories_equal": disturbed.memories == calm.memories,
        "clients_that_remember": sum(bool(memory.get("residual")) for memory in disturbed.memories.values()),
    }


def main() -> int:
    """Both runs, and one JSON object to close with; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    logging.getLogger("muster").setLevel(logging.ERROR)  # workers say each time that nobody is there
    with tempfile.TemporaryDirectory(prefix="muster-benchmark-") as folder:
        disturbed = run(Path(folder) / "disturbed", given.kills, given.rounds)
        print(f"{disturbed.kills} coordinators killed in {disturbed.seconds:.0f} s", flush=True)
        calm = run(Path(folder) / "calm", 0, given.rounds)
    found = compared(disturbed, calm, given.rounds)
    about = {"kills": disturbed.kills, "rounds": given.rounds, "seconds": round(disturbed.seconds, 1)}
    result = {"benchmark": "crash"} | about | verdict(found, disturbed.kills, given.kills)
    print(json.dumps(result))
    return 0 if result["holds"] else 1


def verdict(found: dict[str, Any], kills: int, wanted_kills: int) -> dict[str, Any]:
    """What was found and what it has to be. Two runs are equal or they are not: of that there is no interval."""
    usual = {"retrained": 0, "clients_that_remember": WORKERS * CLIENTS_OF_EACH}
    bound = {name: usual.get(name, True) for name in found}
    holds = kills == wanted_kills and found == bound
    return found | {"ci95": None, "against": "an undisturbed run", "bound": bound, "holds": holds}


if __name__ == "__main__":
    sys.exit(main())
