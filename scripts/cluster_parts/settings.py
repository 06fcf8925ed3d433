"""Everything that the environment and the command line say, read once."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster_parts.errors import UnavailableError


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the cluster lives and what is to be used instead of what we would build.

    `cache` holds what may be kept for years (binaries), `folder` one cluster: its keys, data, logs and process ids.
    `existing` is a KUBECONFIG that isn't ours: that cluster is used and never touched by up and down.
    `assets` is KUBEBUILDER_ASSETS: a folder of binaries as controller-runtime's setup-envtest lays them out.
    """

    cache: Path
    folder: Path
    existing: str | None
    assets: Path | None

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"


def read_settings(name: str, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings for the cluster called `name`."""
    if sys.platform != "linux" and not environ.get("KUBECONFIG"):
        raise UnavailableError(
            "Only Linux can run the control plane. Elsewhere make a cluster with kind, set KUBECONFIG."
        )
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "muster"
    folder = cache / "clusters" / name
    given = environ.get("KUBECONFIG")
    is_ours = given == str(folder / "kubeconfig")
    assets = environ.get("KUBEBUILDER_ASSETS")
    return Settings(
        cache=cache,
        folder=folder,
        existing=given if given and not is_ours else None,
        assets=Path(assets) if assets else None,
    )
