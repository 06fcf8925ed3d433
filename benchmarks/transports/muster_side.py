"""Muster: a real coordinator process, and the real worker in one process each, with a workshop that trains nothing.

Everything but the task is what production runs: joining, listening, the worker's loop and its book, fetching and its
checks, encoding, offering; staging, validation, the sum, durable models and records. Workers are forked from this
process, which has imported torch for all of them, as `muster run` does it.
"""

from __future__ import annotations

import logging
import multiprocessing
import sys
from typing import Any

import numpy as np
from coordinator import POOL, TOKEN, Trust, coordinator
from setting import TENSORS, Setting, laps, read_setting, say

from muster.connection import Connection
from muster.courier import Courier
from muster.credentials import Fixed, Material
from muster.desk import Desk
from muster.logtail import LogTail
from muster.membership import Membership
from muster.training import Trained
from muster.witness import Watch
from muster.worker import WorkerSettings, use_memory_again
from muster.workshop import Trainee, Workshop
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.values import Values


class Idle(Workshop):
    """Trains nothing: each client hands in the same update in each round, as Flower's hands back what it got.

    It is not zero. A model that stands still keeps its name, and clients that have it don't fetch it: no model would go
    down.
    """

    def __init__(self, tensor_size: int) -> None:
        names = [f"layer{number}" for number in range(TENSORS)]
        self._layout = Layout(tuple(TensorSpec(name, (tensor_size,), "float32", Kind.TRAINABLE) for name in names))
        self._update = Values.zeros(self._layout, frozen=False)
        self._update.trainable[...] = np.random.default_rng(1).standard_normal(self._update.trainable.size, np.float32)

    def initialise(self, seed: int, *, with_groups: bool = False) -> Values:  # noqa: ARG002 -- the workshop's signature
        values = Values.zeros(self._layout)
        values.trainable[...] = np.random.default_rng(seed).standard_normal(values.trainable.size, np.float32)
        return values

    def train(self, client, base, state, seed, hooks, part=None) -> Trainee:  # noqa: ARG002 -- the workshop's signature
        return Trainee(self._update, Trained(10, 1), 1)


def work(address: str, index: int, setting: Setting, material: Material) -> None:
    """One worker, until the job is over."""
    logging.disable(logging.WARNING)
    use_memory_again()
    token = "" if material.pair else TOKEN
    desk, connection = Desk(), Connection(address, token, Fixed(material))
    settings = WorkerSettings(address, POOL, token, indices=(index,))
    membership = Membership(settings, f"worker-{index}", connection)
    courier = Courier(connection, desk, membership.join, LogTail(), membership.heed)
    membership.on_change(courier.rejoin)
    if courier.connect():
        loop = membership.build_loop(desk, Watch(POOL, None), Idle(setting.tensor_size))
        courier.start()
        loop.run()
    courier.stop()


def run(trust: Trust | None = None) -> None:
    """The coordinator, its workers, all rounds; with `trust` over mutual TLS."""
    setting, _ = read_setting(sys.argv[1:])
    fork = multiprocessing.get_context("fork")
    with coordinator(setting.clients, setting.all_rounds, trust) as running:
        address = running.address
        materials = [
            Material(trust.authorities, trust.pair(index)) if trust else Material() for index in range(setting.clients)
        ]
        workers = [
            fork.Process(target=work, args=(address, index, setting, material))
            for index, material in enumerate(materials)
        ]
        for worker in workers:
            worker.start()
        commits = [event for event in running.events() if event["event"] == "committed"]
        for worker in workers:
            worker.join(5)
            worker.kill()
    _check_that_models_went_round(commits, setting)
    say(laps([commit["time"] for commit in commits]))


def _check_that_models_went_round(commits: list[dict[str, Any]], setting: Setting) -> None:
    """Each round but that of the first model has to have moved as many models down as up."""
    least = setting.clients * setting.model_bytes
    for commit in commits[1:]:
        if min(commit["bytesDown"], commit["bytesUp"]) < least:
            raise SystemExit(
                f"round {commit['round']}: {commit['bytesDown']} B down, {commit['bytesUp']} up, of {least}"
            )


if __name__ == "__main__":
    run()
