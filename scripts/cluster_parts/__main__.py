"""The command: scripts/cluster up | down | env | status | programs | load | on."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from cluster_parts.errors import ClusterError
from cluster_parts.lifecycle import check_existing, command_on, down, load, read_parts, up
from cluster_parts.processes import find_process
from cluster_parts.programs import find_all, find_kubectl, find_programs
from cluster_parts.settings import Settings, read_settings

_EPILOG = """
An existing cluster is used instead when KUBECONFIG names one, other binaries when KUBEBUILDER_ASSETS does.
Exit codes: 0 done, 1 failed, 3 this machine has neither Go nor binaries nor a cluster.
"""


def main() -> int:
    """Run one command; its exit code."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, _terminated)
    try:
        command: Callable[[Settings, argparse.Namespace], int] = arguments.command
        return command(read_settings(arguments.name), arguments)
    except ClusterError as error:
        print(f"scripts/cluster: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/cluster", description=__doc__, epilog=_EPILOG)
    parser.add_argument("--name", default="default", help="which cluster, where several are to run side by side")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, function in _COMMANDS.items():
        commands.add_parser(name, help=function.__doc__).set_defaults(command=function)
    commands.choices["up"].add_argument(
        "--owner",
        type=int,
        metavar="PID",
        help="a process that the cluster needn't outlive: once it is gone, any up ends it",
    )
    commands.choices["up"].add_argument("--nodes", type=int, default=0, help="with so many nodes that run pods (root)")
    commands.choices["load"].add_argument("archive", type=Path, help="what docker, podman or buildah saved")
    commands.choices["load"].add_argument("--node", type=_node, help="on this node only")
    commands.choices["on"].add_argument("node", type=_node, help="n1, n2, …")
    commands.choices["on"].add_argument("argv", nargs=argparse.REMAINDER, help="the command")
    return parser


def _node(name: str) -> int:
    """n1 → 1"""
    return int(name.removeprefix("n"))


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM ends `up` as Ctrl-C does: through the clean-up."""
    sys.exit(143)


def _up(settings: Settings, arguments: argparse.Namespace) -> int:
    """bring the control plane up, or what is missing of it"""
    if settings.existing:
        print(f"Using the cluster of KUBECONFIG={settings.existing} ({check_existing(settings)}).", file=sys.stderr)
        return 0
    started = time.monotonic()
    up(settings, find_process(arguments.owner) if arguments.owner else None, arguments.nodes)
    missing = {"kube-controller-manager", "kube-scheduler"} - find_programs(settings).keys()
    if missing:
        print(f"Without {' and '.join(sorted(missing))}: KUBEBUILDER_ASSETS has none.", file=sys.stderr)
    print(f'Up in {time.monotonic() - started:.1f} s. Next: eval "$(scripts/cluster env)"', file=sys.stderr)
    return 0


def _down(settings: Settings, _: argparse.Namespace) -> int:
    """stop everything that up started and remove its data"""
    print("Down." if down(settings) else "Nothing to take down.", file=sys.stderr)
    return 0


def _env(settings: Settings, _: argparse.Namespace) -> int:
    """print what to eval in a shell to use the cluster"""
    if not settings.existing and not settings.kubeconfig.exists():
        raise ClusterError("The cluster isn't up. Bring it up with: scripts/cluster up")
    print(f"export KUBECONFIG={shlex.quote(settings.existing or str(settings.kubeconfig))}")
    print(f'export PATH={shlex.quote(str(find_kubectl(settings).parent))}:"$PATH"')
    return 0


def _status(settings: Settings, _: argparse.Namespace) -> int:
    """say what runs; exit code 1 if anything doesn't"""
    if settings.existing:
        print(f"KUBECONFIG={settings.existing}: {check_existing(settings)}")
        return 0
    parts = read_parts(settings)
    for part in parts:
        print(f"{part.name:<26}{'running' if part.runs else 'gone':<10}{part.pid}")
    if not parts:
        print("Not up. Bring it up with: scripts/cluster up")
    return 0 if parts and all(part.runs for part in parts) else 1


def _programs(settings: Settings, _: argparse.Namespace) -> int:
    """see to it that all programs are there, and helm: where they aren't, building them takes a quarter of an hour"""
    for name, path in find_all(settings).items():
        print(f"{name:<26}{path}")
    return 0


def _load(settings: Settings, arguments: argparse.Namespace) -> int:
    """bring an image to the nodes"""
    load(settings, arguments.archive, arguments.node)
    return 0


def _on(settings: Settings, arguments: argparse.Namespace) -> int:
    """run a command in the namespaces of a node: scripts/cluster on n1 ip route"""
    argv = command_on(settings, arguments.node, arguments.argv)
    os.execvp(argv[0], argv)  # noqa: S606 - exactly that is what it is for


_COMMANDS = {"up": _up, "down": _down, "env": _env, "status": _status, "programs": _programs, "load": _load, "on": _on}

sys.exit(main())
