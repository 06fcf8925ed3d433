"""The relay beside a bridge: what is started, what workers are told, and how it is kept alive."""

import itertools
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from muster_slurm.errors import SettingsError
from muster_slurm.forwarder import open_port
from muster_slurm.relay import CANDIDATES, PORTS, FolderCarrier, Relay, SshCarrier, open_carrier
from muster_slurm.request import Keys
from muster_slurm.transport import Secrets
from muster_spec.pool_types import Ssh
from muster_spec.values import SecretKey
from muster_wire.trust.bundle import Bundle
from slurm_pools import slurm_job

KEY = SecretKey(name="ssh", key="id")
SSH = Ssh(host="login", port=22, user="fl", key_secret=KEY, known_hosts_secret=KEY)
BUNDLE = Bundle("fl.example.org:8443", "ca", "certificate", "key")
KEYS = "keySecret: {name: ssh, key: id}, knownHostsSecret: {name: ssh, key: id}"
BY_SSH = f"{{command: {{type: Ssh, ssh: {{host: login, user: fl, {KEYS}}}}}, relay: {{type: Ssh}}}}"
LOCAL = "command: {type: Local}"


class Saying:
    """A carrier whose process is a line of Python. `wrong`: what it makes of the places that it is told, in turn."""

    name = "the relay"

    def __init__(self, program, wrong=()):
        self.program = program
        self.noted = []
        self.wrong = [*wrong]

    def start(self, target):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([sys.executable, "-c", self.program, target], **pipes)

    def note(self, place):
        self.noted.append(place)
        return self.wrong.pop(0) if self.wrong else ""

    def told(self, bundle):
        return bundle


def look_until(relay, is_so):
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        relay.look()
        time.sleep(0.02)


def ssh_carrier(folder, port=22):
    ssh = msgspec.structs.replace(SSH, port=port)
    return SshCarrier(ssh, folder / "id", folder / "hosts", Keys("uid", "hpc"), folder / "ledger.relay")


def test_a_relay_says_where_it_is_and_ends_with_the_bridge():
    program = "import sys; print('listening', sys.argv[1], flush=True); sys.stdin.read(); print('bye')"
    said, carrier = [], Saying(program)
    relay = Relay(carrier, "127.0.0.1:1", said.append)
    look_until(relay, lambda: relay.is_ready)
    assert (carrier.noted, said) == (["127.0.0.1:1"], ["the relay carries"])
    assert relay.is_carrying
    relay.stop()


def test_a_relay_that_ends_says_why_and_is_started_again():
    said, carrier = [], Saying("import sys; print('listening x', flush=True); sys.exit('broken pipe')")
    relay = Relay(carrier, "t", said.append)
    look_until(relay, lambda: len(said) >= 4)
    assert (relay.is_ready, relay.is_carrying) == (True, False)
    relay.stop()
    assert said[:3] == [
        "the relay carries",
        "the relay has ended, and is started again: broken pipe",
        "the relay carries again",
    ]


def test_a_relay_that_is_not_where_workers_look_is_ended_and_started_again():
    program = "import sys; print('listening login', flush=True); sys.stdin.read(); print('bye')"
    said, carrier = [], Saying(program, ["login2 is another"])
    relay = Relay(carrier, "t", said.append)
    look_until(relay, lambda: relay.is_ready)
    relay.stop()
    assert said == ["the relay has ended, and is started again: login2 is another", "the relay carries"]
    assert carrier.noted == ["login", "login"]


def options_of(command):
    return {word for before, word in itertools.pairwise(command) if before == "-o"}


@pytest.mark.parametrize(("port", "known"), [(22, "login"), (2222, "[login]:2222")])
def test_of_several_hosts_behind_a_name_the_one_that_workers_know_is_gone_back_to(tmp_path, port, known):
    carrier = ssh_carrier(tmp_path, port)
    direct = {"HostName=login1", f"HostKeyAlias={known}"}

    def goes_direct():
        command = carrier.command("/tmp/x", "t")  # noqa: S108 -- on no machine
        assert command[-2:] == ["login", "sh -l"]
        assert f"UserKnownHostsFile={tmp_path}/hosts" in options_of(command)
        return direct <= options_of(command)

    assert not goes_direct()
    assert carrier.note("login1:23456") == ""
    assert not goes_direct()
    assert carrier.note("login2:23456") == "login led to login2:23456 this time, but workers dial login1:23456"
    assert goes_direct()
    assert carrier.name == "the relay to login1, where workers dial,"
    assert carrier.note("login1:23456") == ""
    assert goes_direct()  # and stays with it
    assert not goes_direct()  # that led nowhere, so the name is tried, which may lead there again
    assert carrier.name == "the relay"
    assert carrier.note("login1:23456") == ""
    assert carrier.told(BUNDLE).coordinator == "login1:23456"


def test_workers_meet_the_coordinator_behind_the_relay(tmp_path):
    carrier = ssh_carrier(tmp_path)
    carrier.note("login1:23456")
    told = carrier.told(BUNDLE)
    assert (told.coordinator, told.server_name) == ("login1:23456", "fl.example.org")
    assert (told.certificate, told.key) == (BUNDLE.certificate, BUNDLE.key)
    folder = FolderCarrier(tmp_path).told(BUNDLE)
    assert (folder.coordinator, folder.server_name) == ("fl.example.org:8443", "fl.example.org")


def test_the_address_that_workers_know_is_kept(tmp_path):
    first = ssh_carrier(tmp_path)
    wanted = first.ports
    assert len(wanted) == CANDIDATES
    assert set(wanted) <= set(PORTS)
    assert ssh_carrier(tmp_path).ports == wanted  # wherever it is asked
    first.note(f"login1:{wanted[1]}")
    first.note("login1:1")  # another login node behind the same name: who waits in the queue knows the first
    again = ssh_carrier(tmp_path)
    assert again.ports == (wanted[1],)
    assert again.told(BUNDLE).coordinator == f"login1:{wanted[1]}"


def test_an_address_that_cannot_be_read_is_said_so(tmp_path):
    (tmp_path / "ledger.relay").write_text("nonsense")
    with pytest.raises(SettingsError, match=r"ledger\.relay"):
        ssh_carrier(tmp_path)


def test_pools_choose_their_relay(tmp_path):
    (tmp_path / "secrets" / "ssh").mkdir(parents=True)
    (tmp_path / "secrets" / "ssh" / "id").write_text("key")
    secrets, ledger = Secrets(tmp_path / "secrets"), tmp_path / "ledger"
    kinds = {
        BY_SSH: SshCarrier,
        f"{{{LOCAL}, relay: {{type: SharedFolder, sharedFolder: {{path: {tmp_path}}}}}}}": FolderCarrier,
        f"{{{LOCAL}}}": type(None),
    }
    for slurm, kind in kinds.items():
        assert type(open_carrier(*slurm_job(tmp_path, slurm), secrets, ledger)) is kind


def test_the_port_that_workers_may_know_is_waited_for():
    with socket.create_server(("", 0)) as earlier, socket.create_server(("", 0)) as other, ThreadPoolExecutor() as pool:
        known, free = earlier.getsockname()[1], other.getsockname()[1]
        other.close()
        opening = pool.submit(open_port, [known, free])
        with pytest.raises(TimeoutError):
            opening.result(0.7)
        earlier.close()
        with opening.result(20) as listener:
            assert listener.getsockname()[1] == known
