"""A private sshd on a port of its own, with keys and settings of its own: the login node of tests."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import psutil

GIVE_UP_S = 20


def sshd_program():
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def make_key(path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


def free_port(host):
    with socket.create_server((host, 0)) as listener:
        return listener.getsockname()[1]


class LoginNode:
    """`key` is a user's, which it lets in; `known_hosts` has its own."""

    def __init__(self, folder, environment, host="127.0.0.1"):
        self.folder, self.host, self.port, self.process = folder, host, free_port(host), None
        folder.mkdir(mode=0o700)
        self.key, self._host_key = make_key(folder / "user"), make_key(folder / "host")
        shutil.copy(f"{self.key}.pub", folder / "authorized")
        settings = {
            "Port": self.port,
            "ListenAddress": host,
            "HostKey": self._host_key,
            "AuthorizedKeysFile": folder / "authorized",
            "PidFile": folder / "pid",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "SetEnv": " ".join(f"{name}={value}" for name, value in environment.items()),
        }
        (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))

    @property
    def known_hosts(self):
        """Its line, as a careful user has it."""
        kind, key, *_ = Path(f"{self._host_key}.pub").read_text().split()
        return f"[{self.host}]:{self.port} {kind} {key}\n"

    def change_host_key(self):
        """As after a reinstallation, or with somebody in the middle."""
        self.stop()
        for path in (self._host_key, Path(f"{self._host_key}.pub")):
            path.unlink()
        make_key(self._host_key)
        self.start()

    def start(self):
        Path("/run/sshd").mkdir(exist_ok=True)
        log = self.folder / "log"
        command = [sshd_program(), "-D", "-f", str(self.folder / "config"), "-E", str(log)]
        self.process = subprocess.Popen(command)
        deadline = time.monotonic() + GIVE_UP_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1):
                return
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    def forwarders(self):
        """What runs here for relays."""
        found = []
        for process in psutil.process_iter():
            try:
                is_ours = any(parent.pid == self.process.pid for parent in process.parents())
                if is_ours and any("What runs on a login node" in word for word in process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def stop(self):
        """The connections that it has let in go on, as they do when sshd is restarted."""
        self.process.terminate()
        self.process.wait(GIVE_UP_S)
