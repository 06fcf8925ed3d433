"""What SLURM pools may ask for that no pod has: the one list, by which jobs are refused and pools say so. Pure."""

from __future__ import annotations

from typing import Final

_BY_COMMAND: Final = {
    "Local": "a pod has no sbatch",
    "Ssh": "the bridge's image has no ssh client, and none of its users has a name, without which ssh refuses to run",
}
_RELAYED: Final = "a pod shares no folder with the nodes, so it can't relay for them"


def lacking_in_pods(command: str | None, *, is_relayed: bool) -> str | None:
    """Why a pool can't be served from a cluster: its `slurm.command.type`, or that it has `slurm.relay`."""
    if command is not None:
        return _BY_COMMAND[command]
    return _RELAYED if is_relayed else None
