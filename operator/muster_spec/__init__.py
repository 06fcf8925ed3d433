"""What a user writes: manifests, checked against the one schema, defaulted, and turned into frozen values.

The names below are looked up when they are first used: coordinators and workers need only the types, and checking
manifests brings in CEL and a schema validator, which take longer to import than all the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from muster_spec.loading import Job, Manifest, Pool, check, load
    from muster_spec.problems import Category, ManifestError, Problem, SpecError
    from muster_spec.resolving import resolve

_PLACES = {
    **dict.fromkeys(("Job", "Manifest", "Pool", "check", "load"), "loading"),
    **dict.fromkeys(("Category", "ManifestError", "Problem", "SpecError"), "problems"),
    "resolve": "resolving",
}

__all__ = [
    "Category",
    "Job",
    "Manifest",
    "ManifestError",
    "Pool",
    "Problem",
    "SpecError",
    "check",
    "load",
    "resolve",
]


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
