"""Raw TCP over loopback: the server sends the model to every client, and each sends it back."""

from __future__ import annotations

import socket
import sys
import threading
import time

from setting import CHUNK_BYTES, Setting, clients_of, laps, read_setting, say


def serve(setting: Setting) -> None:
    """All rounds, with a thread a client."""
    times: list[float] = []
    gate = threading.Barrier(setting.clients, action=lambda: times.append(time.perf_counter()))
    model = bytes(setting.model_bytes)
    server = socket.create_server(("127.0.0.1", 0), backlog=setting.clients)
    with server, clients_of(__file__, setting, f"127.0.0.1:{server.getsockname()[1]}"):
        peers = [server.accept()[0] for _ in range(setting.clients)]
        threads = [threading.Thread(target=_exchange, args=(peer, model, gate, setting)) for peer in peers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    say(laps(times))


def _exchange(peer: socket.socket, model: bytes, gate: threading.Barrier, setting: Setting) -> None:
    buffer = bytearray(CHUNK_BYTES)
    with peer:
        for _ in range(setting.all_rounds):
            gate.wait()
            peer.sendall(model)
            _receive(peer, memoryview(buffer), setting.model_bytes)
        gate.wait()


def _receive(peer: socket.socket, buffer: memoryview, size: int) -> None:
    """So many bytes, over the same buffer again and again."""
    while size:
        got = peer.recv_into(buffer[:size])
        if not got:
            raise ConnectionError("the other side is gone")
        size -= got


def work(address: str, setting: Setting) -> None:
    """Every model back, once it is here whole."""
    host, _, port = address.rpartition(":")
    model = bytearray(setting.model_bytes)
    with socket.create_connection((host, int(port))) as server:
        for _ in range(setting.all_rounds):
            _fill(server, memoryview(model))
            server.sendall(model)
        server.recv(1)


def _fill(server: socket.socket, model: memoryview) -> None:
    while model:
        got = server.recv_into(model)
        if not got:
            raise ConnectionError("the server is gone")
        model = model[got:]


def main() -> None:
    """The server, or one of its clients."""
    setting, role = read_setting(sys.argv[1:])
    if role:
        work(role[1], setting)
    else:
        serve(setting)


if __name__ == "__main__":
    main()
