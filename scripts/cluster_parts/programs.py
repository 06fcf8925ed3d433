"""Finds the programs that a cluster is made of, or builds them from Go modules, once per version.

Kubernetes is not meant to be built from outside its own tree: its go.mod points at staging folders. A wrapper module
that replaces each of them with the release of the same minor version builds it all the same, checked against Go's
checksum database, with nothing but the module proxy. The result is kept in the cache, in a folder that appears there
complete or not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster_parts.errors import ClusterError, UnavailableError
from cluster_parts.settings import Settings, read_settings

NEEDED = ("etcd", "kube-apiserver", "kubectl")
"""What KUBEBUILDER_ASSETS must hold. setup-envtest has no controller manager and no scheduler: they may be missing."""

_REMEDY = "Set KUBECONFIG to an existing cluster (kind, k3d, a real one), or KUBEBUILDER_ASSETS to a folder of binaries"


@dataclass(frozen=True, slots=True)
class Product:
    """A Go module at one version, the package of each program built from it, what is stamped in, what is left out."""

    name: str
    module: str
    version: str
    packages: Mapping[str, str]
    stamps: Mapping[str, str] = field(default_factory=dict)
    tags: str = ""


ETCD = Product("etcd", "go.etcd.io/etcd/server/v3", "3.6.6", {"etcd": "go.etcd.io/etcd/server/v3"})
# Its version: without it, version checks refuse to start.
_KUBERNETES_STAMPS = {
    f"k8s.io/component-base/version.{name}": value
    for name, value in (("gitVersion", "v1.36.3"), ("gitMajor", "1"), ("gitMinor", "36"))
}
KUBERNETES = Product(
    "kubernetes",
    "k8s.io/kubernetes",
    "1.36.3",
    {
        name: f"k8s.io/kubernetes/cmd/{name}"
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
    },
    _KUBERNETES_STAMPS,
)
NODE = Product(
    "kubernetes-node",
    "k8s.io/kubernetes",
    "1.36.3",
    {name: f"k8s.io/kubernetes/cmd/{name}" for name in ("kubelet", "kube-proxy")},
    _KUBERNETES_STAMPS,
)
CONTAINERD = Product(
    "containerd",
    "github.com/containerd/containerd/v2",
    "2.4.2",
    {
        name: f"github.com/containerd/containerd/v2/cmd/{name}"
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
    {"github.com/containerd/containerd/v2/version.Version": "v2.4.2"},
    tags="no_btrfs no_zfs",  # they want C libraries
)
COREDNS = Product("coredns", "github.com/coredns/coredns", "1.15.0", {"coredns": "github.com/coredns/coredns"})
HELM = Product(
    "helm",
    "helm.sh/helm/v3",
    "3.22.0",
    {"helm": "helm.sh/helm/v3/cmd/helm"},
    # The Kubernetes that it takes charts to be for where it talks to none: unstamped, one that is years old.
    {"helm.sh/helm/v3/internal/version.version": "v3.22.0"}
    | {
        f"helm.sh/helm/v3/pkg/{package}.k8sVersion{part}": value
        for package in ("chartutil", "lint/rules")
        for part, value in (("Major", "1"), ("Minor", "36"))
    },
)


def find_programs(settings: Settings) -> dict[str, Path]:
    """The path of each program: from KUBEBUILDER_ASSETS if given, else from the cache, built if it isn't there."""
    if settings.assets is not None:
        return _programs_of_assets(settings.assets)
    return _built(ETCD, settings) | _built(KUBERNETES, settings)


def find_kubectl(settings: Settings) -> Path:
    """The kubectl of the cluster's version; for an existing cluster the user's own, if there is one."""
    own = shutil.which("kubectl") if settings.existing else None
    return Path(own) if own else find_programs(settings)["kubectl"]


def find_helm(settings: Settings) -> Path:
    """The helm that the chart is tested with. Where there is no Go, the user's own has to do."""
    own = shutil.which("helm") if shutil.which("go") is None else None
    return Path(own) if own else _built(HELM, settings)["helm"]


def find_node_programs(settings: Settings) -> dict[str, Path]:
    """What nodes run, built if it isn't in the cache."""
    return _built(NODE, settings) | _built(CONTAINERD, settings) | _built(COREDNS, settings)


def find_all(settings: Settings) -> dict[str, Path]:
    """Everything that tests of the cluster use: where it isn't there, building it takes a quarter of an hour."""
    return {**find_programs(settings), **find_node_programs(settings), "helm": find_helm(settings)}


def _built(product: Product, settings: Settings) -> dict[str, Path]:
    """The product's programs, from the cache, where they are kept once they were built."""
    folder = settings.cache / "programs" / f"{product.name}-{product.version}"
    if not folder.is_dir():
        _build_once(product, folder)
    return {name: folder / name for name in product.packages}


def _programs_of_assets(assets: Path) -> dict[str, Path]:
    names = (*ETCD.packages, *KUBERNETES.packages)
    found = {name: assets / name for name in names if os.access(assets / name, os.X_OK)}
    missing = [name for name in NEEDED if name not in found]
    if missing:
        raise ClusterError(
            f"KUBEBUILDER_ASSETS={assets} has no {', '.join(missing)}. "
            "Fill it with setup-envtest, or unset it and the programs are built from Go modules."
        )
    return found


# --- Building ---------------------------------------------------------------------------------------------------------


def _build_once(product: Product, folder: Path) -> None:
    """Build into `folder`, unless somebody else has while we waited for the lock."""
    if shutil.which("go") is None:
        raise UnavailableError(
            f"{product.name} {product.version} isn't in the cache and there is no Go to build it with. "
            f"Install Go 1.26 or newer (https://go.dev/dl). {_REMEDY}."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f".{folder.name}.lock")):
        if folder.is_dir():
            return
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as work:
            (Path(work) / "programs").mkdir()
            _build(product, Path(work))
            (Path(work) / "programs").rename(folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(product: Product, work: Path) -> None:
    print(f"Building {product.name} {product.version} from Go modules: minutes, the first time only…", file=sys.stderr)
    (work / "go.mod").write_text(go_mod(product, _staging_modules(product, work)))
    flags = ["-trimpath", "-tags", product.tags, "-ldflags", linker_flags(product)]
    programs, packages = work / "programs", product.packages
    if all(package.rpartition("/")[2] == name for name, package in packages.items()):  # so Go would call them, too
        _go(work, "build", "-mod=mod", *flags, "-o", f"{programs}/", *packages.values())
        return
    for name, package in packages.items():
        _go(work, "build", "-mod=mod", *flags, "-o", str(programs / name), package)


def _staging_modules(product: Product, work: Path) -> list[str]:
    """The modules that the product keeps in its own tree: its go.mod requires them at v0.0.0."""
    module = json.loads(_go(work, "mod", "download", "-json", f"{product.module}@v{product.version}"))
    requirements: list[dict[str, Any]] = json.loads(_go(work, "mod", "edit", "-json", module["GoMod"]))["Require"]
    return [each["Path"] for each in requirements if each["Version"] == "v0.0.0"]


def go_mod(product: Product, staging: list[str]) -> str:
    """The wrapper module: the product, with its staging modules (Kubernetes 1.X.Y releases them as 0.X.Y)."""
    staging_version = "v0." + product.version.partition(".")[2]
    lines = [
        f"module cluster/{product.name}",
        "go 1.26.0",
        "godebug default=go1.26",
        f"require {product.module} v{product.version}",
        *(f"replace {path} => {path} {staging_version}" for path in staging),
    ]
    return "\n".join(lines) + "\n"


def linker_flags(product: Product) -> str:
    """Small binaries, with their stamps."""
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in product.stamps.items())])


def _go(work: Path, *arguments: str) -> str:
    # Compilers that collect garbage less often are done sooner.
    environment = {"GOGC": "400"} | os.environ | {"CGO_ENABLED": "0", "GOWORK": "off"}
    result = subprocess.run(["go", *arguments], cwd=work, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        said = "\n".join(result.stderr.strip().splitlines()[-15:])
        raise ClusterError(f"`go {arguments[0]}` failed:\n{said}\nIt needs Go 1.26 and its module proxy. {_REMEDY}.")
    return result.stdout


if __name__ == "__main__":  # for a machine that has no .venv yet
    find_all(read_settings("default"))
