"""`muster version`: the first thing to ask for when something is odd."""

from __future__ import annotations

import platform
from importlib import metadata

import click

SHOWN = ("muster", "grpcio", "protobuf", "numpy", "torch")


@click.command()
def version() -> None:
    """Print the versions of Muster and of what it runs on."""
    click.echo(f"python {platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in SHOWN:
        click.echo(f"{name} {_version_of(name)}")


def _version_of(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
