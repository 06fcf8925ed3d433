"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import importlib
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def test_the_operator_folder_does_not_shadow_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    operator = importlib.import_module("operator")
    assert Path(str(operator.__file__)).parent != ROOT / "operator"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_why_it_exists_and_ships_its_types(package: str) -> None:
    module = importlib.import_module(Path(package).name)
    assert (module.__doc__ or "").strip(), f"{package}/__init__.py needs a docstring"
    assert (ROOT / package / "py.typed").exists()


def test_every_package_folder_is_in_the_distribution() -> None:
    found = {
        str(init.parent.relative_to(ROOT))
        for folder in ("operator", "worker", "protos")
        for init in (ROOT / folder).glob("*/__init__.py")
    }
    assert found == set(PACKAGES)


def test_nothing_of_ours_unpickles() -> None:
    ours = [path for folder in ("operator", "worker", "protos") for path in (ROOT / folder).rglob("*.py")]
    assert len(ours) > 20
    assert not [path for path in ours if _unpickles(ast.parse(path.read_text()))]


def _unpickles(tree: ast.Module) -> bool:
    return any(_imports_a_pickler(node) or _allows_pickle(node) for node in ast.walk(tree))


def _imports_a_pickler(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] in PICKLERS for alias in node.names)
    return isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLERS


def _allows_pickle(node: ast.AST) -> bool:
    """`numpy.load(allow_pickle=True)`, and `torch.load`, which unpickles unless told not to."""
    if not isinstance(node, ast.Call):
        return False
    allowed = any(k.arg == "allow_pickle" and getattr(k.value, "value", None) is True for k in node.keywords)
    return allowed or ast.unparse(node.func) == "torch.load"


def test_python_is_as_new_as_the_manifest_of_the_project_says() -> None:
    assert sys.version_info >= (3, 11)
