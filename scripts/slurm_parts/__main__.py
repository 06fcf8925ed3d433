"""The command: scripts/slurm packages | up | run | down | env | status."""

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

from cluster_parts.processes import find_process, is_running

from slurm_parts import lifecycle, packages
from slurm_parts.errors import SlurmError
from slurm_parts.settings import cache_of, environment_of, folder_of

_EPILOG = "Exit codes: 0 done, 1 failed, 3 this machine has no SLURM to bring up, or isn't ours to."


def main() -> int:
    """Run one command; its exit code."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, _terminated)
    try:
        command: Callable[[Path, argparse.Namespace], int] = arguments.command
        arguments.root = cache_of(arguments.release) if arguments.release else None
        return command(folder_of(arguments.name), arguments)
    except SlurmError as error:
        print(f"scripts/slurm: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/slurm", description=__doc__, epilog=_EPILOG)
    parser.add_argument("--name", default="default", help="which one, where several are to run side by side")
    parser.add_argument("--release", help="with the SLURM of another Debian release, such as trixie (24.11)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, function in (("packages", _packages), ("up", _up), ("down", _down), ("env", _env), ("status", _status)):
        commands.add_parser(name, help=function.__doc__).set_defaults(command=function)
    run = commands.add_parser("run", help=_run.__doc__)
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND …")
    run.set_defaults(command=_run)
    up = commands.choices["up"]
    up.add_argument(
        "--owner", type=int, metavar="PID", help="a process that it needn't outlive: once that is gone, any up ends it"
    )
    up.add_argument(
        "--set", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="a line of slurm.conf"
    )
    return parser


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM ends `up` as Ctrl-C does: through the clean-up."""
    sys.exit(143)


def _packages(_: Path, arguments: argparse.Namespace) -> int:
    """install SLURM, without its services, where it is missing"""
    packages.install(arguments.release, arguments.root)
    return 0


def _run(folder: Path, arguments: argparse.Namespace) -> int:
    """run one of SLURM's commands, such as squeue, where it is up"""
    state = lifecycle.load(folder)
    if state is None:
        raise SlurmError("It isn't up. Bring it up with: scripts/slurm up")
    argv = packages.inside(Path(state.root) if state.root else None, arguments.words)
    os.execvpe(argv[0], argv, environment_of(folder))  # noqa: S606 -- that is what it is for


def _up(folder: Path, arguments: argparse.Namespace) -> int:
    """bring munge, slurmctld, four slurmd and slurmrestd up, or what is missing of them"""
    started = time.monotonic()
    lifecycle.up(folder, find_process(arguments.owner) if arguments.owner else None, arguments.changes, arguments.root)
    print(f'Up in {time.monotonic() - started:.1f} s. Next: eval "$(scripts/slurm env)"', file=sys.stderr)
    return 0


def _down(folder: Path, _: argparse.Namespace) -> int:
    """cancel every job, stop everything, and remove it"""
    print("Down." if lifecycle.down(folder) else "Nothing to take down.", file=sys.stderr)
    return 0


def _env(folder: Path, _: argparse.Namespace) -> int:
    """print what to eval in a shell to use it"""
    state = lifecycle.load(folder)
    if state is None:
        raise SlurmError("It isn't up. Bring it up with: scripts/slurm up")
    print(f"export SLURM_CONF={shlex.quote(str(folder / 'slurm.conf'))}")
    print(f"export MUSTER_SLURM_URL=http://127.0.0.1:{state.ports.slurmrestd}")
    return 0


def _status(folder: Path, _: argparse.Namespace) -> int:
    """say what runs; exit code 1 if anything doesn't"""
    state = lifecycle.load(folder)
    parts = state.processes if state else {}
    for name, process in parts.items():
        print(f"{name:<12}{'running' if is_running(process) else 'gone':<10}{process.pid}")
    if not parts:
        print("Not up. Bring it up with: scripts/slurm up")
    return 0 if parts and all(map(is_running, parts.values())) else 1


sys.exit(main())
