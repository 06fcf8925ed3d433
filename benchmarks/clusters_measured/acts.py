"""What a soak does to jobs while they run."""

from __future__ import annotations

import time
from collections.abc import Callable

from faults.jobs import Job
from faults.nodes import dropping, frozen, slowed
from real_nodes import SYSTEM, Team, wait_until

Act = Callable[[Job], None]


def kill_worker(job: Job) -> None:
    """kill -9 of everything in its pod."""
    job.team.nodes.kill_pod(job.pod("worker"))


def kill_coordinator(job: Job) -> None:
    """Likewise."""
    job.team.nodes.kill_pod(job.pod("coordinator"))


def evict_coordinator(job: Job) -> None:
    """As a drain evicts it."""
    job.team.evict(job.pod("coordinator"))


def lose_packets(job: Job) -> None:
    """All of them between worker and coordinator, for six seconds."""
    worker, coordinator = (job.pod(one)["status"]["podIP"] for one in ("worker", "coordinator"))
    with dropping(job.team.nodes, "n1", [(worker, coordinator), (coordinator, worker)]) as dropped:
        time.sleep(6)
        wait_until(lambda: dropped() > 0, "packets are dropped", within_s=1)


def slow_the_link(job: Job) -> None:
    """12 kB a second to and from the worker, for six seconds."""
    with slowed(job.team.nodes, job.pod("worker"), "100kbit") as link:
        time.sleep(6)
        wait_until(link.has_held_back, "packets wait", within_s=1)


def stop_worker(job: Job) -> None:
    """Alive, and doing nothing, for six seconds."""
    with frozen(job.team.nodes, job.pod("worker")):
        time.sleep(6)


def kill_operator(job: Job) -> None:
    """kill -9; the kubelet starts it anew."""
    operator = Team(job.team.nodes, SYSTEM)
    [pod] = operator.get("pods", "-l", "app.kubernetes.io/component=operator")["items"]
    job.team.nodes.kill_pod(pod)


ON_A_JOB: tuple[Act, ...] = (kill_worker, kill_coordinator, evict_coordinator, lose_packets, slow_the_link, stop_worker)


def try_to(act: Act, job: Job) -> str:
    """Do it; in words what was done, in brackets where it didn't land, as in a job that has just ended, or restarts."""
    try:
        act(job)
    except (IndexError, AssertionError, FileNotFoundError):
        return f"({act.__name__})"
    return act.__name__
