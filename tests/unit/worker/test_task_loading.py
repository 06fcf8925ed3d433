import sys
from typing import Any

import pytest
from small_task import Points

from muster import ConfigError, Options, Task, parse_options
from muster.loading import load_task
from muster_spec.types import InitialModel, PathSource, Source, TaskSpec


def spec(entrypoint, config: dict[str, Any] | None = None, folder=None):
    source = Source(type="Path", path=PathSource(path=str(folder))) if folder else None
    return TaskSpec(
        entrypoint=entrypoint, config=config or {}, initial_model=InitialModel(type="Client"), source=source
    )


def test_an_entrypoint_becomes_a_task():
    task = load_task(spec("small_task:Points", {"private": True}))
    assert isinstance(task, Points)
    assert task.options.private


@pytest.mark.parametrize(
    ("entrypoint", "said"),
    [
        ("nowhere.to_be:Found", "there is no module nowhere; is it installed, or should spec.task.source"),
        ("muster.nowhere:Found", "there is no module muster.nowhere"),
        ("small_task:Point", "has no class Point; did you mean small_task:Points"),
        ("small_task:", r"no class \(none named\); did you mean small_task:Points"),
        ("small_task:points", "not a class derived from muster.Task"),
        ("needs_more:Thing", "needs_more needs not_there_at_all, which isn't installed here"),
        ("raises_early:Thing", "importing raises_early raised ZeroDivisionError"),
    ],
)
def test_what_is_wrong_with_an_entrypoint_is_said(entrypoint, said, tmp_path):
    (tmp_path / "needs_more.py").write_text("import not_there_at_all")
    (tmp_path / "raises_early.py").write_text("1 / 0")
    sys.path.append(str(tmp_path))
    try:
        with pytest.raises(ConfigError, match=said):
            load_task(spec(entrypoint))
    finally:
        sys.path.remove(str(tmp_path))


def test_a_source_folder_comes_first_on_the_path(tmp_path):
    (tmp_path / "own_model_here.py").write_text("import muster\nclass Own(muster.Task): pass")
    try:
        assert type(load_task(spec("own_model_here:Own", folder=tmp_path))).__name__ == "Own"
        assert sys.path[0] == str(tmp_path)
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["own_model_here"]


def test_a_source_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"spec\.task\.source\.path\.path: .*/missing is not a folder"):
        load_task(spec("own:Own", folder=tmp_path / "missing"))


class Inner(Options, frozen=True):
    depth: int = 1


class Outer(Options, frozen=True):
    file_name: str
    width: int = 16
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, r"^spec\.task\.config: object missing required field `fileName`"),
        ({"fileName": "x", "widht": 3}, r"^spec\.task\.config\.widht: unknown; did you mean width\?"),
        ({"fileName": "x", "zzz": 3}, r"^spec\.task\.config\.zzz: unknown; this task knows fileName, width, inner"),
        ({"fileName": "x", "width": "3"}, r"^spec\.task\.config\.width: expected `int`, got `str`"),
        (
            {"fileName": "x", "inner": {"depht": 3}},
            r"^spec\.task\.config\.inner: object contains unknown field `depht`",
        ),
    ],
)
def test_bad_options_name_the_path(config, said):
    with pytest.raises(ConfigError, match=said):
        parse_options(Outer, config)


def test_options_are_read():
    assert parse_options(Outer, {"fileName": "x", "inner": {"depth": 2}}) == Outer(file_name="x", inner=Inner(depth=2))


def test_a_task_without_options_ignores_none():
    Task({})
    with pytest.raises(ConfigError, match="takes no configuration"):
        Task({"width": 3})


def test_a_script_that_exits_when_imported_is_no_end_of_the_worker(tmp_path):
    (tmp_path / "exiting_script.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(ConfigError, match="importing exiting_script raised SystemExit: 3"):
        load_task(spec("exiting_script:Anything", folder=tmp_path))
