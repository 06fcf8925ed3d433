"""Flower's own gRPC path: its server and strategy in this process, a process a client, a `fit` that does nothing."""

from __future__ import annotations

import logging
import sys
import time

import numpy as np
from flwr.client import NumPyClient
from flwr.common import ndarrays_to_parameters
from flwr.compat.client.app import start_client
from flwr.server import ServerConfig, start_server
from flwr.server.strategy import FedAvg
from setting import TENSORS, Setting, clients_of, free_port, laps, read_setting, say


class Timed(FedAvg):
    """Notes when each round begins, and when the last one has been averaged."""

    def __init__(self, **options):
        super().__init__(**options)
        self.times = []

    def configure_fit(self, *arguments, **named):
        self.times.append(time.perf_counter())
        return super().configure_fit(*arguments, **named)

    def aggregate_fit(self, server_round, results, failures):
        if failures:
            raise RuntimeError(f"round {server_round}: {failures[0]}")
        averaged = super().aggregate_fit(server_round, results, failures)
        self.ended = time.perf_counter()
        return averaged


class Idle(NumPyClient):
    """Sends back what it got."""

    def fit(self, parameters, config):  # noqa: ARG002 -- Flower calls it
        return parameters, 10, {}


def serve(setting: Setting) -> None:
    """All rounds."""
    generator = np.random.default_rng(0)
    first = [generator.standard_normal(setting.tensor_size, np.float32) for _ in range(TENSORS)]
    strategy = Timed(
        fraction_evaluate=0.0,
        min_fit_clients=setting.clients,
        min_available_clients=setting.clients,
        min_evaluate_clients=0,
        initial_parameters=ndarrays_to_parameters(first),
    )
    address = f"127.0.0.1:{free_port()}"
    with clients_of(__file__, setting, address):
        start_server(server_address=address, config=ServerConfig(num_rounds=setting.all_rounds), strategy=strategy)
    say(laps([*strategy.times, strategy.ended]))


def main() -> None:
    """The server, or one of its clients."""
    logging.disable(logging.WARNING)
    setting, role = read_setting(sys.argv[1:])
    if role:
        start_client(server_address=role[1], client=Idle().to_client(), insecure=True)
    else:
        serve(setting)


if __name__ == "__main__":
    main()
