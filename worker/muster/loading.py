"""From ``package.module:Class`` to a task, with errors that say which half is wrong."""

from __future__ import annotations

import difflib
import importlib
import sys
from pathlib import Path
from types import ModuleType

from muster.errors import ConfigError
from muster.task import Task
from muster_spec.types import Source, TaskSpec


def load_task(spec: TaskSpec) -> Task:
    """Import the entrypoint and make its task.

    Raises:
        ConfigError: the module or class isn't there, isn't a task, or doesn't understand the configuration.
    """
    module_name, _, class_name = spec.entrypoint.partition(":")
    if spec.source is not None:
        _add_source(spec.source)
    kind = _class(_module(module_name, spec.source), class_name, spec.entrypoint)
    return kind(spec.config)


def _add_source(source: Source) -> None:
    """Put the folder of the task's code first on the import path. The runner has made its path absolute."""
    if source.type != "Path" or source.path is None:
        return
    folder = Path(source.path.path)
    if not folder.is_dir():
        raise ConfigError(f"spec.task.source.path.path: {folder} is not a folder on this worker")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _module(name: str, source: Source | None) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and not f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(f"spec.task.entrypoint: {name} needs {error.name}, which isn't installed here") from error
        hint = "" if source else "; is it installed, or should spec.task.source name its folder?"
        raise ConfigError(f"spec.task.entrypoint: there is no module {error.name or name}{hint}") from error
    except (Exception, SystemExit) as error:  # a script that was made a task may call sys.exit
        raise ConfigError(f"spec.task.entrypoint: importing {name} raised {type(error).__name__}: {error}") from error


def _class(module: ModuleType, name: str, entrypoint: str) -> type[Task]:
    kind = getattr(module, name, None)
    if isinstance(kind, type) and issubclass(kind, Task):
        return kind
    if kind is not None:
        raise ConfigError(f"spec.task.entrypoint: {entrypoint} is not a class derived from muster.Task")
    known = [
        n for n, each in vars(module).items() if isinstance(each, type) and issubclass(each, Task) and each is not Task
    ]
    close = difflib.get_close_matches(name, known, n=1) or known[:1]
    hint = f"; did you mean {module.__name__}:{close[0]}?" if close else ""
    raise ConfigError(f"spec.task.entrypoint: {module.__name__} has no class {name or '(none named)'}{hint}")
