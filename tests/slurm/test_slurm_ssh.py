"""SLURM behind a login node: commands through ssh, and relays for nodes that can't dial out. The sshd is a real one."""

import os
import shlex
import signal
import socket

import pytest

from attending import to_nowhere
from muster_wire.trust.bundle import read_bundle
from running import gone
from slurm_runs import training, write_job
from slurming import bridging, by_commands, has_no_python, let_end, manifest, said, wait_until, write_secret
from sshing import LoginNode, sshd_program

needs_sshd = pytest.mark.skipif(
    sshd_program() is None and "slurm" not in os.environ.get("MUSTER_REQUIRE", ""),
    reason="there is no sshd on this machine; as root: scripts/slurm packages",
)
needs_python = pytest.mark.skipif(
    has_no_python(), reason="this Python is the system's, and the root folder has its own"
)
pytestmark = [needs_sshd, needs_python]


@pytest.fixture
def login(slurm, tmp_path):
    """As at a site, SLURM is on the PATH of login shells."""
    node = LoginNode(tmp_path / "login", {"SLURM_CONF": slurm.environment["SLURM_CONF"], "HOME": tmp_path / "login"})
    (node.folder / ".profile").write_text(f"export PATH={shlex.quote(slurm.environment['PATH'])}\n")
    node.start()
    yield node
    node.stop()


def through(login, folder, known_hosts=None, more=""):
    """The pool's way to SLURM."""
    write_secret(folder, "key", login.key.read_text().rstrip("\n"))
    (folder / "secrets" / "site" / "key").chmod(0o600)
    write_secret(folder, "hosts", login.known_hosts if known_hosts is None else known_hosts)
    keys = "keySecret: {name: site, key: key}, knownHostsSecret: {name: site, key: hosts}"
    ssh = f"{{host: 127.0.0.1, port: {login.port}, user: root, {keys}}}"
    return f"command: {{type: Ssh, ssh: {ssh}}}" + more


def test_workers_are_submitted_listed_and_cancelled_through_ssh(slurm, tmp_path, login):
    with bridging(slurm, tmp_path, manifest(tmp_path, through(login, tmp_path))) as bridge:
        bridge.until("submitted")
        wait_until(lambda: len(said(tmp_path, "bundle", "eyJhIjogImJ1")) == 2)  # what is secret has come through
        bridge.until("queue", "2 running")
        bridge.process.send_signal(signal.SIGTERM)
        assert bridge.close()[0] == 0
    assert slurm.queue() == ""


@pytest.mark.parametrize("host", ["unknown", "changed"])
def test_a_host_that_is_not_the_known_one_is_never_talked_to(slurm, tmp_path, login, host):
    how = through(login, tmp_path, known_hosts="" if host == "unknown" else None)
    if host == "changed":
        login.change_host_key()
    with bridging(slurm, tmp_path, manifest(tmp_path, how)) as bridge:
        bridge.until("warning", "Host key verification failed")
        bridge.process.kill()  # it would ask for another minute what it has at SLURM
        bridge.close()
    assert bridge.submissions() == []
    log = (login.folder / "log").read_text()
    assert ("Connection closed" in log, "Accepted" in log) == (True, False), log


def test_an_outage_of_the_login_node_is_waited_out(slurm, tmp_path, login):
    with bridging(slurm, tmp_path, manifest(tmp_path, through(login, tmp_path))) as bridge:
        bridge.until("submitted")
        wait_until(lambda: len(said(tmp_path, "start")) == 2)
        login.stop()
        bridge.until("warning", "ssh: connect")
        login.start()
        bridge.until("answers")
        let_end(tmp_path)
        slurm.until(lambda: not slurm.queue())
        bridge.tell(over=True)
        assert bridge.close()[0] == 0
    assert len(bridge.submissions()) == 1


# --- relays -----------------------------------------------------------------------------------------------------------

SSH_RELAY = "\n                relay: {type: Ssh}"


def relayed(run, again=False):
    """When the relay carries (again)."""
    words = "carries again" if again else "the relay carries"
    return run.until(lambda event: event.get("what") == "relay" and words in event["message"])


def test_through_the_login_node_and_a_connection_that_breaks(slurm, tmp_path, login):
    write_job(tmp_path, through(login, tmp_path, more=SSH_RELAY), rounds=8, seconds=0.5)
    with training(slurm, tmp_path) as run:
        relayed(run)
        run.committed(2)
        [forwarder] = login.forwarders()
        port = int((tmp_path / "out" / "slurm-hpc.json.relay").read_text().rpartition(":")[2])
        session = next(each for each in forwarder.parents() if each.name().startswith("sshd"))
        place = len(run.events)
        session.kill()  # the login node's end of the connection, without a word
        assert gone([session])
        run.until(lambda event: event["event"] == "joined", place)  # there is no other way, so all come anew
        relayed(run, again=True)
        code, done, err = run.finish()
    assert (code, done["rounds"]) == (0, 8), (err, run.events[-5:])
    assert sum(event["event"] == "failedAttempt" for event in run.events) == 0
    assert gone([forwarder], timeout=10)
    assert login.forwarders() == []  # no daemon stays behind
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)


def test_what_nodes_are_told_of_a_relay_is_its_address_and_whom_to_meet_there(slurm, tmp_path, login):
    with bridging(
        slurm, tmp_path, manifest(tmp_path, through(login, tmp_path, more=SSH_RELAY)), join=to_nowhere()
    ) as bridge:
        bridge.until("submitted")
        wait_until((tmp_path / "joined").exists)
        bundle = read_bundle((tmp_path / "joined").read_text())
        place = (tmp_path / "ledger.relay").read_text()
        assert (bundle.coordinator, bundle.server_name) == (place, "127.0.0.1")
        assert place.startswith(f"{socket.gethostname()}:")
        bridge.process.send_signal(signal.SIGTERM)
        assert bridge.close()[0] == 0


def test_a_name_that_leads_to_another_host_than_workers_know_is_gone_around(slurm, tmp_path, login):
    (tmp_path / "ledger.relay").write_text("localhost:23456")  # no host calls itself that, so neither way is right
    file = manifest(tmp_path, through(login, tmp_path, more=SSH_RELAY))
    with bridging(slurm, tmp_path, file, join=to_nowhere()) as bridge:
        bridge.until("relay", "127.0.0.1 led to")
        bridge.until("relay", "localhost led to")  # directly, and known by the key of the name
        bridge.process.send_signal(signal.SIGTERM)
        assert bridge.close()[0] == 0
    assert bridge.submissions() == []
    assert login.forwarders() == []


def test_through_a_shared_folder_and_a_relay_that_dies(slurm, tmp_path):
    (tmp_path / "shared").mkdir()
    relay = f"relay: {{type: SharedFolder, sharedFolder: {{path: {tmp_path}/shared}}}}"
    write_job(tmp_path, by_commands(), rounds=8, seconds=0.5, more=relay)
    with training(slurm, tmp_path) as run:
        relayed(run)
        run.committed(2)
        [near] = [each for each in run.processes() if "muster_slurm.folder" in each.cmdline()]
        place = len(run.events)
        near.kill()
        run.until(lambda event: event["event"] == "joined", place)
        relayed(run, again=True)
        code, done, err = run.finish()
    assert (code, done["rounds"]) == (0, 8), (err, run.events[-5:])
    assert sum(event["event"] == "failedAttempt" for event in run.events) == 0
    assert list((tmp_path / "shared").iterdir()) == []
