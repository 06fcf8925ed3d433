"""Networks between a worker and its coordinator: cut, one way or both, cut in the middle of an upload, or slow."""

from __future__ import annotations

import time

from faults.jobs import Job, Lab, manifest, pool
from faults.nodes import Pairs, dropping, slowed
from real_nodes import wait_until

_MEGABYTE = 250_000  # of numbers


def cut_both_ways(lab: Lab) -> None:
    _partition(lab, "both ways", to_worker=True, to_coordinator=True)


def cut_to_the_coordinator(lab: Lab) -> None:
    _partition(lab, "to the coordinator", to_coordinator=True)


def cut_to_the_worker(lab: Lab) -> None:
    _partition(lab, "to the worker", to_worker=True)


def _partition(lab: Lab, ways: str, *, to_worker: bool = False, to_coordinator: bool = False) -> None:
    """One client of three is cut off: rounds go on with the others, at the first at their deadline, and with it again
    once it is back.
    """
    given = manifest(
        f"cut-{ways.rpartition(' ')[2]}",
        [pool("near"), pool("cut", clients=1, trusted=False)],
        rounds={"total": 30, "minUpdates": None, "deadlineSeconds": 6},
        config={"seconds": 1.5},
    )
    with lab.job(f"packets lost {ways}, 20 s", given) as job:
        there, back = _ways(job, "cut")
        pairs = [*([there] if to_coordinator else []), *([back] if to_worker else [])]
        job.breaks()
        with dropping(job.team.nodes, "n1", pairs) as dropped:
            wait_until(lambda: dropped() > 0, "packets are dropped")
            before = job.team.training(job.name)["round"]
            time.sleep(20)
            meanwhile = job.team.training(job.name)["round"]
        history = job.ends_well()
        assert meanwhile > before + 1  # the one that was under way may have had its update
        assert any(one["used"] == 3 for one in history if one["round"] > meanwhile)


def _ways(job: Job, of: str = "") -> Pairs:
    addresses = [job.pod("worker", of)["status"]["podIP"], job.pod("coordinator")["status"]["podIP"]]
    return [(addresses[0], addresses[1]), (addresses[1], addresses[0])]


def cut_in_the_middle_of_an_upload(lab: Lab) -> None:
    """Updates of a megabyte at 1 Mbit/s take eight seconds each: the cut comes after a few."""
    given = manifest(
        "cut-upload", [pool("near")], rounds={"total": 4, "deadlineSeconds": 120}, config={"ballast": _MEGABYTE}
    )
    with lab.job("cut in the middle of an upload, 5 s", given) as job:
        nodes = job.team.nodes
        with slowed(nodes, job.pod("worker"), "1mbit") as link:
            wait_until(lambda: link.sent_bytes() > 300_000, "a part of an upload has gone out")
            job.breaks()
            with dropping(nodes, "n1", _ways(job)) as dropped:
                wait_until(lambda: dropped() > 0, "packets are dropped")
                time.sleep(5)
        history = job.ends_well()
        assert all(one["used"] == 2 for one in history)


def slow_link(lab: Lab) -> None:
    """One client of three can't send its update before the deadline, which holds: rounds close without it, and after
    each it sits some out.
    """
    given = manifest(
        "slow-link",
        [pool("near"), pool("slow", clients=1, trusted=False)],
        rounds={"total": 9, "minUpdates": None, "deadlineSeconds": 6},
        config={"ballast": _MEGABYTE},
    )
    with lab.job("a link at 400 kbit/s", given) as job:
        job.breaks()
        with slowed(job.team.nodes, job.pod("worker", "slow"), "400kbit") as link:
            wait_until(link.has_held_back, "packets wait")
            history = job.ends_well()
        late = [one for one in history if one["stragglers"] == 1]
        assert len(late) >= 2
        assert {one["used"] for one in late} == {2}
        assert any(one["asked"] == 2 for one in history)
