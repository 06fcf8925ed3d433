"""The `muster` command. Commands are imported when they are used: `muster --help` needs neither PyTorch nor gRPC."""

from __future__ import annotations

import importlib
import sys
import traceback
from dataclasses import dataclass

import click

from muster_cli.errors import CommandError, ExitCode

COMMANDS = {
    "run": ("muster_cli.run:run", "Train a job on this machine, with no cluster."),
    "validate": (
        "muster_cli.validate:validate",
        "Check manifests as the API server does, and more; prints every problem at once.",
    ),
    "simulate": ("muster_cli.simulate:simulate", "Run a job in simulated time, on clients that a profile describes."),
    "worker": ("muster_cli.worker:worker", "Work for a coordinator that runs elsewhere."),
    "fetch-model": ("muster_cli.fetch_model:fetch_model", "Fetch the model of a job that has run in a cluster."),
    "version": ("muster_cli.version:version", "Print the versions of Muster and of what it runs on."),
}


@dataclass
class Debug:
    """Whether to print a traceback where a message would do."""

    wanted: bool = False


def _want_debug(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        context.ensure_object(Debug).wanted = True


DEBUG = click.Option(
    ["--debug"],
    is_flag=True,
    expose_value=False,
    callback=_want_debug,
    is_eager=True,
    help="Print a traceback where something goes wrong.",
)


class LazyGroup(click.Group):
    """A group that imports a command when somebody uses it, and gives each a --debug."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        if DEBUG not in command.params:
            command.params.append(DEBUG)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


@click.group(cls=LazyGroup, params=[DEBUG], context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Federated learning where the machines already are: Kubernetes and SLURM, one manifest."""


def main() -> None:
    """Run a command; whatever goes wrong is one message and an exit code."""
    debug = Debug()
    try:
        sys.exit(cli.main(standalone_mode=False, obj=debug))
    except click.ClickException as error:
        error.show()
        code: int = ExitCode.BAD_INPUT
    except CommandError as error:
        code = _explain(str(error), debug, error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        code = ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last place where anything can be said plainly
        message = (
            f"{type(error).__name__}: {error}\nThis is a fault in Muster. `--debug` shows where; please report it."
        )
        code = _explain(message, debug, ExitCode.FAILED)
    sys.exit(code)


def _explain(message: str, debug: Debug, code: int) -> int:
    if debug.wanted:
        traceback.print_exc()
    click.echo(f"muster: {message}", err=True)
    return code


if __name__ == "__main__":
    main()
