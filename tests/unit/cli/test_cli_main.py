"""The `muster` command itself: quick, and plain about what goes wrong."""

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from muster_cli.errors import BadInput
from muster_cli.main import COMMANDS, cli
from muster_cli.worker import parse_indices

HEAVY = ("torch", "grpc", "kopf", "numpy", "rich", "yaml")


def test_help_imports_nothing_heavy():
    script = (
        "import sys; from muster_cli.main import cli; cli.main(['--help'], standalone_mode=False);"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(name):
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.get_short_help_str(200) == COMMANDS[name][1]
    assert any(parameter.name == "debug" for parameter in command.params)


def test_an_unknown_command_is_bad_input():
    done = subprocess.run([sys.executable, "-m", "muster_cli.main", "rum"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "No such command 'rum'" in done.stderr


def test_version_says_what_it_runs_on():
    done = CliRunner().invoke(cli, ["version"])
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.output.splitlines()] == [
        "python",
        "muster",
        "grpcio",
        "protobuf",
        "numpy",
        "torch",
    ]


@pytest.mark.parametrize(("text", "indices"), [("0", (0,)), ("2,0,2", (2, 0))])
def test_indices_of_clients(text, indices):
    assert parse_indices(text) == indices


@pytest.mark.parametrize("text", ["", "a", "0,", "1-3", "-1"])
def test_indices_that_are_none(text):
    with pytest.raises(BadInput, match="write numbers between commas"):
        parse_indices(text)


def test_a_refused_run_still_closes_its_json(tmp_path):
    command = [sys.executable, "-m", "muster_cli.main", "run", str(tmp_path / "missing.yaml"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    closing = json.loads(done.stdout)
    assert (closing["event"], closing["state"]) == ("done", "Failed")
    assert "missing.yaml" in closing["message"]
    assert "missing.yaml" in done.stderr
