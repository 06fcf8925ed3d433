"""What runs on a login node while a bridge relays through its ssh connection: a port that nodes dial, and nothing else.

This text is sent through ssh and run by the login node's own Python (3.6 or newer), so it imports nothing of ours. sshd
lets whoever opens PATH through to the coordinator (ssh -R), but only on the login node itself; so this listens where
nodes can reach it, and joins each connection to one of those. What passes is TLS that it can't look into. It ends with
the ssh connection, or when it hasn't heard from the bridge for a while: no daemon stays behind.

    python3 forwarder.py PATH PORT...     listens on the first of the ports, or else on another, and says on which
"""

import os
import select
import socket
import sys
import threading
import time

SILENT_S = 30.0
PATIENCE_S = 40.0  # for the first port, which workers may know: an earlier forwarder may still have it
CHUNK = 65536


def open_port(ports: "list[int]") -> socket.socket:
    """A socket that listens on the first of these ports, or on another one where that can't be had for long."""
    until = time.monotonic() + PATIENCE_S
    while True:
        is_late = time.monotonic() > until
        for port in ports if is_late else ports[:1]:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("", port))
                listener.listen(128)
            except OSError:
                listener.close()
            else:
                return listener
        if is_late:
            sys.exit(f"port {ports[0]} of {socket.gethostname()} can't be opened: another program has it")
        time.sleep(0.5)


def serve(listener: socket.socket, path: str) -> None:
    """Join each connection to one of its own through PATH."""
    while True:
        near, _ = listener.accept()
        far = socket.socket(socket.AF_UNIX)
        try:
            far.connect(path)
        except OSError:
            near.close()
            continue
        threading.Thread(target=join, args=(near, far), daemon=True).start()


def join(near: socket.socket, far: socket.socket) -> None:
    """Carry both ways until both have ended."""
    back = threading.Thread(target=carry, args=(far, near), daemon=True)
    back.start()
    carry(near, far)
    back.join()
    near.close()
    far.close()


def carry(source: socket.socket, target: socket.socket) -> None:
    """What comes from one to the other: an end is handed on, an error ends both."""
    try:
        data = source.recv(CHUNK)
        while data:
            target.sendall(data)
            data = source.recv(CHUNK)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for each in (source, target):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def outlive_nobody() -> None:
    """Return when the bridge is gone: its end of standard input is closed, or nothing comes from it."""
    while select.select([0], [], [], SILENT_S)[0] and os.read(0, 4096):
        continue


def main() -> None:
    """Serve for as long as the bridge lives."""
    path, ports = sys.argv[1], [int(port) for port in sys.argv[2:]]
    try:
        listener = open_port(ports)
        print(f"listening {socket.gethostname()}:{listener.getsockname()[1]}", flush=True)
        threading.Thread(target=serve, args=(listener, path), daemon=True).start()
        outlive_nobody()
    finally:
        os.unlink(path)


if __name__ == "__main__":
    main()
