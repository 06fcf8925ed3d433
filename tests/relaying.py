"""The near end of a relay through a folder as a process, which a test may kill, and servers for it to lead to."""

import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

PATIENCE_S = 30


class NearProcess:
    """`python -m muster_slurm.folder` under way."""

    def __init__(self, folder, address):
        command = [sys.executable, "-m", "muster_slurm.folder", str(folder), address]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, **pipes)
        assert self.process.stdout.readline() == f"listening {folder}\n".encode(), self.process.stderr.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.stdin.close()
            assert self.process.wait(PATIENCE_S) == 0, self.process.stderr.read()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)


@contextmanager
def echoing():
    """Says back what it hears, and then that it heard the end; its address, and the connections that are open."""
    connections = []

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection):
        try:
            while data := connection.recv(65536):
                connection.sendall(data)
            connection.sendall(b"the end")
        except OSError:
            pass
        connections.remove(connection)
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        host, port = listener.getsockname()
        yield f"{host}:{port}", connections
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def dialled(address):
    """A connection to a far end."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect(address.removeprefix("unix:"))
        yield connection


def whole(connection):
    """All that comes until the other side ends."""
    return b"".join(iter(lambda: connection.recv(1 << 20), b""))
