"""The user's own kubectl, as far as commands of ours need it: it knows the cluster, and how the user logs in there."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from muster_cli.errors import BadInput, CommandError

Object = dict[str, Any]
_CHUNK = 1 << 20


class Cluster(Protocol):
    """What can be asked of a cluster."""

    def tell(self, *arguments: str, manifest: Object | None = None) -> str:
        """Run a command that has to succeed; what it printed. Raises CommandError with what it said instead."""
        ...

    def stream(self, *arguments: str) -> Iterator[bytes]:
        """What a command prints, piece by piece, until it ends or is cut off."""
        ...


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl with the options that choose a cluster and a namespace."""

    options: tuple[str, ...] = ()

    def tell(self, *arguments: str, manifest: Object | None = None) -> str:
        text = json.dumps(manifest) if manifest else None
        result = subprocess.run(  # noqa: S603 - the arguments are ours
            self._command(arguments), input=text, capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise CommandError(f"kubectl {arguments[0]}: {result.stderr.strip() or result.stdout.strip()}")
        return result.stdout

    def stream(self, *arguments: str) -> Iterator[bytes]:
        command = self._command(arguments)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:  # noqa: S603
            assert process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
            try:
                while piece := process.stdout.read(_CHUNK):
                    yield piece
            finally:
                process.kill()

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        program = shutil.which("kubectl")
        if program is None:
            raise BadInput("kubectl isn't on the PATH; install it, and see that `kubectl get fedjobs` works")
        return [program, *self.options, *arguments]


def read(cluster: Cluster, *arguments: str) -> Object:
    """An object, or a list of them."""
    found: Object = json.loads(cluster.tell("get", *arguments, "-o", "json"))
    return found
