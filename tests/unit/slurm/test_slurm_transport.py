"""Which way to SLURM a pool chooses, and with what secrets."""

import itertools

import pytest

from muster_slurm.commands import Commands
from muster_slurm.errors import Refused, SettingsError, Unreachable
from muster_slurm.request import slurm_of
from muster_slurm.rest import Rest
from muster_slurm.transport import Secrets, open_transport
from muster_spec.values import SecretKey
from slurm_pools import slurm_job

SSH = """{command: {type: Ssh, ssh: {host: login, port: 2222, user: fl,
        keySecret: {name: ssh, key: id}, knownHostsSecret: {name: ssh, key: hosts}}}}"""
URL = "{url: 'http://localhost:1', auth: {user: fl, tokenSecret: {name: site, key: token}}}"


def transport_of(tmp_path, slurm, **secrets):
    for key, text in secrets.items():
        (tmp_path / "secrets" / key.partition("_")[0]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "secrets" / key.partition("_")[0] / key.partition("_")[2]).write_text(text)
    return open_transport(slurm_of(slurm_job(tmp_path, slurm)[1]), Secrets(tmp_path / "secrets"))


def test_ssh_asks_nobody_and_learns_no_host_key(tmp_path):
    transport = transport_of(tmp_path, SSH, ssh_id="k", ssh_hosts="h")
    shell = transport.shell
    options = {word for before, word in itertools.pairwise(shell) if before == "-o"}
    assert shell[0] == "ssh"
    assert shell[-6:] == ("-p", "2222", "-l", "fl", "login", "sh -l")
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={tmp_path}/secrets/ssh/hosts"} <= options
    assert f"IdentityFile={tmp_path}/secrets/ssh/id" in options


def test_the_command_line_runs_here(tmp_path):
    assert transport_of(tmp_path, "{command: {type: Local}}").shell == ("sh",)


def test_url_means_slurmrestd(tmp_path):
    assert isinstance(transport_of(tmp_path, URL, site_token="t"), Rest)  # noqa: S106 -- no secret


@pytest.mark.parametrize(("slurm", "words"), [(URL, "site/token"), (SSH, "ssh/id")])
def test_a_secret_that_is_missing_is_named(tmp_path, slurm, words):
    with pytest.raises(SettingsError, match=words):
        transport_of(tmp_path, slurm)


def test_without_a_folder_of_secrets_the_option_is_named():
    with pytest.raises(SettingsError, match="--secrets"):
        Secrets(None).read(SecretKey(name="a", key="b"))


def test_secrets_lose_only_the_newline_that_editors_leave(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text(" t \n")
    assert Secrets(tmp_path).read(SecretKey(name="a", key="b")) == " t "


def test_a_program_that_never_answers_is_given_up():
    with pytest.raises(Unreachable, match="no answer within"):
        Commands(("sh", "-c", "sleep 9", "sh"), timeout_s=0.2).cancel(1)


def test_a_program_that_is_not_there():
    with pytest.raises(Unreachable, match="no-such-shell"):
        Commands(("no-such-shell",)).cancel(1)


def test_what_a_program_says_is_the_reason():
    with pytest.raises(Refused, match="sbatch: error: Invalid"):
        Commands(("sh", "-c", "echo sbatch: error: Invalid account >&2; exit 1", "sh")).cancel(1)
