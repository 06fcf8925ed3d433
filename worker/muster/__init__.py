"""Muster, for those who train: what a task is made of. See `muster.tasks` for ready ones."""

from __future__ import annotations

from muster.errors import ConfigError, DataError, MusterError, RefusedError, TaskError
from muster.options import Options, parse_options
from muster.task import Client, Data, Shard, Task
from muster_wire.groups import Group, Member

__all__ = [
    "Client",
    "ConfigError",
    "Data",
    "DataError",
    "Group",
    "Member",
    "MusterError",
    "Options",
    "RefusedError",
    "Shard",
    "Task",
    "TaskError",
    "parse_options",
]
