"""Nothing but grpcio: the server streams the model to every client, each of which streams it back. Bytes, no checks.

Messages are 1 MiB, made once; a client keeps the ones it gets and sends those back. Nothing is encoded, added up,
checked or stored, so this is the most that anything on top of grpcio could reach.
"""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from setting import CHUNK_BYTES, Setting, clients_of, laps, read_setting, say

OPTIONS = [("grpc.max_receive_message_length", 2 * CHUNK_BYTES), ("grpc.max_send_message_length", 2 * CHUNK_BYTES)]
SERVICE = "bare.Stream"


class Rounds:
    """A model for everybody as soon as everybody has given the last one back."""

    def __init__(self, setting: Setting) -> None:
        size = setting.model_bytes
        self._chunks = [bytes(min(CHUNK_BYTES, size - at)) for at in range(0, size, CHUNK_BYTES)]
        self.times: list[float] = []
        self.over = threading.Event()
        self._left = setting.all_rounds
        self._gate = threading.Barrier(setting.clients, action=self._turn)

    def _turn(self) -> None:
        self.times.append(time.perf_counter())
        self._left -= 1
        if self._left < 0:
            self.over.set()

    def down(self, _request, _context):
        self._gate.wait()
        if not self.over.is_set():
            yield from self._chunks

    def up(self, requests, _context):
        for _ in requests:
            pass
        return b""


def serve(setting: Setting) -> None:
    """All rounds."""
    rounds = Rounds(setting)
    handlers = {
        "Down": grpc.unary_stream_rpc_method_handler(rounds.down),
        "Up": grpc.stream_unary_rpc_method_handler(rounds.up),
    }
    server = grpc.server(ThreadPoolExecutor(2 * setting.clients), options=OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with clients_of(__file__, setting, address):
        rounds.over.wait()
    server.stop(None)
    say(laps(rounds.times))


def work(address: str) -> None:
    """Every model back, until none comes."""
    with grpc.insecure_channel(address, OPTIONS) as channel:
        down, up = channel.unary_stream(f"/{SERVICE}/Down"), channel.stream_unary(f"/{SERVICE}/Up")
        while chunks := list(down(b"")):
            up(iter(chunks))


def main() -> None:
    """The server, or one of its clients."""
    setting, role = read_setting(sys.argv[1:])
    if role:
        work(role[1])
    else:
        serve(setting)


if __name__ == "__main__":
    main()
