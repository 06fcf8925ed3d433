"""A proxy that tunnels, as sites have them between themselves and the world (HTTP CONNECT); or one that opens TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

PIECE_BYTES = 65_536


class Tunnels:
    """A port of this machine whose connections are led elsewhere, each as `serve` says."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"

    @contextmanager
    def running(self) -> Iterator[Self]:
        threading.Thread(target=self._accept, daemon=True).start()
        try:
            yield self
        finally:
            self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()

    def serve(self, client: socket.socket) -> None:
        """Whatever is to be done with a connection. It is closed afterwards."""
        raise NotImplementedError

    def tunnel(self, client: socket.socket, target: str, begin: bytes = b"") -> None:
        """Carry both ways until both ends have had their say, what came already first."""
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port))) as far:
            far.sendall(begin)
            back = threading.Thread(target=_pump, args=(far, client), daemon=True)
            back.start()
            _pump(client, far)
            back.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            self.serve(client)


class ConnectProxy(Tunnels):
    """Leads every tunnel to `target`, whatever host is asked for: it is the resolver, too.

    With `inspecting`, a certificate and its key of another authority's, it answers in the target's stead.
    """

    def __init__(self, target: str, inspecting: tuple[Path, Path] | None = None) -> None:
        super().__init__()
        self.asked: list[str] = []  # the first line of each request
        self.credentials: list[str] = []
        self.inspected = 0  # handshakes that clients broke off, or not
        self._target = target
        self._inspecting = inspecting

    def serve(self, client: socket.socket) -> None:
        self._read_request(client)
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        if self._inspecting:
            self._inspect(client, *self._inspecting)
        else:
            self.tunnel(client, self._target)

    def _read_request(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = client.recv(PIECE_BYTES)
            if not piece:
                raise ConnectionAbortedError
            head += piece
        first, *rest = head.decode().split("\r\n")
        self.asked.append(first)
        self.credentials += [line for line in rest if line.lower().startswith("proxy-authorization:")]

    def _inspect(self, client: socket.socket, certificate: Path, key: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.set_alpn_protocols(["h2"])
        self.inspected += 1
        with context.wrap_socket(client, server_side=True) as opened:
            opened.recv(PIECE_BYTES)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(PIECE_BYTES):
            sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
