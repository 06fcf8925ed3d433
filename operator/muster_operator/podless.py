"""What SLURM pools may ask for that no pod has: the one list, by which jobs are refused and pools say so. Pure."""

from __future__ import annotations

from typing import Final

_LOCAL: Final = "a pod has no sbatch"
_FOLDER: Final = "a pod shares no folder with the nodes, so it can't relay for them"


def lacking_in_pods(command: str | None, relay: str | None) -> str | None:
    """Why a pool can't be served from a cluster, by the types of its `slurm.command` and `slurm.relay`."""
    if command == "Local":
        return _LOCAL
    return _FOLDER if relay == "SharedFolder" else None
