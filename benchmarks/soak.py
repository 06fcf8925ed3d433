"""Thirty jobs one after another and ten side by side on real nodes, under random faults: every job completes with each
round once, and nothing is left of any.

Two nodes are brought up by scripts/cluster with the images built (minutes), or taken as they are with --nodes. The task
is small and trains with PyTorch. While a job runs, something is done to it, drawn by the seed: a worker or coordinator
killed or evicted, packets lost, a link slowed, a worker stopped for a while; and with several side by side the operator
killed besides. After each job it looks at what there is of objects such as pods and Secrets, of the operator's memory
and file descriptors, of processes, mounts and disk on the nodes. What grows from job to job is a leak.

    benchmarks/soak.py [--jobs 30] [--beside 10] [--rounds 8] [--seed 0] [--nodes NAME]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from clusters_measured.acts import ON_A_JOB, Act, kill_operator, try_to  # noqa: E402 -- after the path
from clusters_measured.belongings import Belongings, belongings_of, recycle_volumes  # noqa: E402
from clusters_measured.release import released  # noqa: E402
from faults.jobs import TASK, Job, Lab, manifest, pool  # noqa: E402
from real_nodes import Nodes, Team, team, wait_until  # noqa: E402

NAMESPACE = "soak"
LEAST_LANDED = 0.8  # of the faults: the others met a job that was just ending, or restarting
MOST_GROWTH = 0.1  # of the operator's memory, from the first third of the jobs to the last
Row = dict[str, object]


# --- Jobs -------------------------------------------------------------------------------------------------------------


def run_one(lab: Lab, name: str, rounds: int, drawn: random.Random, acts: tuple[Act, ...]) -> Row:
    """One job, with something done to it in the middle, and removed; how it went."""
    given = manifest(name, [pool("near")], rounds={"total": rounds})
    began, done = time.monotonic(), ""
    with lab.job(name, given, until=drawn.randint(1, rounds // 2)) as job:
        done = try_to(drawn.choice(acts), job)
        job.ends_well()
    seconds = round(time.monotonic() - began, 1)
    wait_until(lambda: not _left_of(lab.team, name), f"nothing is left of {name}", within_s=120)
    return {"job": name, "done": done, "seconds": seconds}


def _left_of(owner: Team, name: str) -> str:
    kinds = "pods,jobs,secrets,configmaps,services,roles,rolebindings,serviceaccounts,networkpolicies,pvc"
    return owner.tell("get", kinds, "-l", f"muster.dev/job={name}", "-o", "name")


def one_after_another(lab: Lab, jobs: int, rounds: int, seed: int) -> list[Row]:
    """Each with what there was once it had gone."""
    rows = []
    for number in range(jobs):
        row = run_one(lab, f"soak-{number}", rounds, random.Random(f"{seed}/{number}"), ON_A_JOB)
        recycle_volumes(lab.team.nodes)
        rows.append(row | belongings_of(lab.team).shown())
        print_row(rows[-1], is_first=not number)
    return rows


def side_by_side(lab: Lab, jobs: int, rounds: int, seed: int) -> list[Row]:
    """All at once, each with something done to it, and the operator killed now and then."""
    with ThreadPoolExecutor(jobs) as pool_, troubled(lab, seed):
        draws = (random.Random(f"{seed}/beside/{number}") for number in range(jobs))
        runs = [
            pool_.submit(run_one, lab, f"beside-{number}", rounds, drawn, ON_A_JOB)
            for number, drawn in enumerate(draws)
        ]
        rows = [run.result() for run in runs]
    recycle_volumes(lab.team.nodes)
    for number, row in enumerate(rows):
        print_row(row, is_first=not number)
    return rows


@contextmanager
def troubled(lab: Lab, seed: int) -> Iterator[None]:
    """The operator killed about every half minute."""
    drawn, over = random.Random(f"{seed}/operator"), threading.Event()
    anybody = Job(lab.team, "", 0)

    def trouble() -> None:
        while not over.wait(drawn.uniform(20, 40)):
            print(f"   {try_to(kill_operator, anybody)}", flush=True)

    thread = threading.Thread(target=trouble)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def print_row(row: Row, *, is_first: bool) -> None:
    """A line of the table."""
    if is_first:
        print("  ".join(f"{name:>{_width(name)}}" for name in row))
    print("  ".join(f"{value!s:>{_width(name)}}" for name, value in row.items()), flush=True)


def _width(name: str) -> int:
    return max(len(name), {"job": 10, "done": 19}.get(name, 7))


# --- The verdict ------------------------------------------------------------------------------------------------------


def leaks(before: Belongings, after: Belongings, rows: list[Row]) -> list[str]:
    """What is there now that wasn't, or has grown: in words."""
    found = [
        f"{name}: {getattr(before, name)} before, {getattr(after, name)} after"
        for name in ("objects", "system_objects", "processes", "mounts", "links", "pod_folders")
        if getattr(after, name) > getattr(before, name)
    ]
    third = max(len(rows) // 3, 1)
    for name in ("operator_mb", "operator_fds", "disk_mb"):
        early, late = (_typical(part, name) for part in (rows[:third], rows[-third:]))
        if late > early * (1 + MOST_GROWTH) + (50 if name == "disk_mb" else 3):
            found.append(f"{name}: {early} in the first third of the jobs, {late} in the last")
    return found


def _typical(rows: list[Row], name: str) -> float:
    values = sorted(float(str(row[name])) for row in rows)
    return values[len(values) // 2]


def main() -> int:
    """Run it; 1 where something leaks, or too few faults landed. A job that doesn't end well ends the benchmark."""
    given = _arguments()
    began = time.monotonic()
    with released(given.nodes, "soak") as nodes, team(nodes, NAMESPACE) as found:
        found.tell("create", "configmap", "stepping", f"--from-file={TASK}")
        lab = Lab(found, lambda _fault, _seconds, _result: None)
        return _report(nodes, lab, given, began)


def _report(nodes: Nodes, lab: Lab, given: argparse.Namespace, began: float) -> int:
    run_one(lab, "warm", 2, random.Random(given.seed), (lambda _job: None,))
    recycle_volumes(nodes)
    before = belongings_of(lab.team)
    rows = one_after_another(lab, given.jobs, given.rounds, given.seed)
    beside = side_by_side(lab, given.beside, given.rounds, given.seed) if given.beside else []
    wait_until(lambda: belongings_of(lab.team).objects <= before.objects, "no object is left", within_s=120)
    after = belongings_of(lab.team)
    found = leaks(before, after, rows)
    done = [str(row["done"]) for row in (*rows, *beside)]
    landed = sum(not each.startswith("(") for each in done)
    is_met = not found and landed >= LEAST_LANDED * len(done)
    closing = {
        "benchmark": "soak",
        "jobs_one_after_another": len(rows),
        "jobs_side_by_side": len(beside),
        "rounds": given.rounds,
        "seed": given.seed,
        "faults": landed,
        "seconds": round(time.monotonic() - began),
        "before": before.shown(),
        "after": after.shown(),
        "leaks": found,
        "is_met": is_met,
    }
    print(json.dumps(closing))
    return 0 if is_met else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=30, help="one after another (%(default)s)")
    parser.add_argument("--beside", type=int, default=10, help="side by side (%(default)s)")
    parser.add_argument("--rounds", type=int, default=8, help="of each job (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is done to whom, and when (%(default)s)")
    parser.add_argument("--nodes", default="", metavar="NAME", help="a cluster of scripts/cluster that has the images")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
