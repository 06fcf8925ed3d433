"""What a user writes: manifests, checked against the one schema, defaulted, and turned into frozen values."""

from muster_spec.loading import Job, Manifest, Pool, check, load
from muster_spec.problems import Category, ManifestError, Problem, SpecError
from muster_spec.resolving import resolve

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
