"""The command: scripts/helm, which is helm itself at the version that the chart is tested with."""

from __future__ import annotations

import os
import sys

from cluster_parts.errors import ClusterError
from cluster_parts.programs import find_helm
from cluster_parts.settings import read_settings


def main() -> None:
    """Become helm, built first if it isn't there yet."""
    try:
        program = find_helm(read_settings("default"))
    except ClusterError as error:
        print(f"scripts/helm: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    os.execv(program, [str(program), *sys.argv[1:]])  # noqa: S606 - exactly that is what it is for


if __name__ == "__main__":
    main()
