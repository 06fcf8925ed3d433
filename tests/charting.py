"""The chart as users meet it: rendered and installed by real helm, and the rights that it gives, used.

Every operator of the cluster tests runs with nothing but those rights (see operator_runs.Lab).
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "helm" / "muster"
HELM = ROOT / "scripts" / "helm"
CANNOT = 3  # the exit code of scripts/helm on a machine with neither helm nor Go
RIGHTS = ("serviceaccount", "rbac", "admission")
CLUSTER_KINDS = "validatingadmissionpolicies,validatingadmissionpolicybindings,clusterroles,clusterrolebindings"

Object = dict[str, Any]


class Kubectl(Protocol):
    """What the cluster fixture gives."""

    @property
    def environment(self) -> Any: ...
    def tell(self, *arguments: str, manifest: str | None = None) -> str: ...
    def kubectl(self, *arguments: str, manifest: str | None = None) -> subprocess.CompletedProcess[str]: ...


def helm(*arguments: str, environment: Mapping[str, str] = os.environ) -> subprocess.CompletedProcess[str]:
    """Run helm, whatever it answers. Skips where there can be none."""
    _ensure_helm()
    return subprocess.run([HELM, *arguments], env=environment, capture_output=True, text=True, check=False)


def tell_helm(*arguments: str, environment: Mapping[str, str] = os.environ) -> str:
    """Run helm, which has to succeed; what it printed."""
    result = helm(*arguments, environment=environment)
    assert result.returncode == 0, f"helm {' '.join(arguments)}: {result.stderr}"
    return result.stdout


@functools.cache
def _ensure_helm() -> None:
    asked = subprocess.run([HELM, "version"], capture_output=True, text=True, check=False)
    if asked.returncode == CANNOT and "cluster" not in os.environ.get("MUSTER_REQUIRE", "").split(","):
        pytest.skip(asked.stderr.strip())
    assert asked.returncode == 0, asked.stderr


def settings(values: Mapping[str, Any]) -> list[str]:
    """Values as arguments, each with its type."""
    return [part for name, value in values.items() for part in ("--set-json", f"{name}={json.dumps(value)}")]


def render(release: str, namespace: str, values: Mapping[str, Any], only: Sequence[str] = ()) -> str:
    """`helm template`, all of it or only some of its templates."""
    shown = [part for name in only for part in ("--show-only", f"templates/{name}.yaml")]
    return tell_helm("template", release, str(CHART), "--namespace", namespace, *settings(values), *shown)


def objects(text: str) -> list[Object]:
    """The objects of a stream of YAML."""
    return [one for one in yaml.safe_load_all(text) if one]


@contextmanager
def own_namespace(cluster: Kubectl) -> Iterator[str]:
    """A namespace of the test's own; what a release of its name has in the whole cluster goes with it."""
    name = f"muster-test-{uuid.uuid4().hex[:8]}"
    cluster.tell("create", "namespace", name)
    try:
        yield name
    finally:
        for job in cluster.kubectl(
            "-n", name, "get", "fedjobs", "-o", "name"
        ).stdout.split():  # whose operator has gone
            cluster.kubectl("-n", name, "patch", job, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
        cluster.tell("delete", "namespace", name, "--wait=false")
        cluster.tell("delete", CLUSTER_KINDS, "-l", f"app.kubernetes.io/instance={name}")


@dataclass(frozen=True)
class Rights:
    """The rights of one release in a cluster. Its ServiceAccount is called after the release."""

    cluster: Kubectl
    release: str
    namespace: str

    def give(self, **values: Any) -> None:
        """The chart's accounts, roles and policies, without the rest."""
        text = render(self.release, self.namespace, values, RIGHTS)
        self.cluster.tell("apply", "-f", "-", manifest=text)

    def credentials(self, folder: Path) -> Path:
        """A kubeconfig of the release's own ServiceAccount, with its token in a file beside it, as in a pod."""
        return credentials(self.cluster, self.namespace, self.release, folder)


def credentials(cluster: Kubectl, namespace: str, account: str, folder: Path) -> Path:
    """A kubeconfig with which one is that ServiceAccount, and nobody else."""
    token, path = folder / f"{account}.token", folder / f"{account}.kubeconfig"
    token.write_text(cluster.tell("-n", namespace, "create", "token", account, "--duration=1h"))
    whole = json.loads(cluster.tell("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    user = {"name": "account", "user": {"tokenFile": str(token)}}
    context = whole["contexts"][0]["context"] | {"user": "account", "namespace": namespace}
    contexts = [{"name": "account", "context": context}]
    path.write_text(json.dumps(whole | {"users": [user], "contexts": contexts, "current-context": "account"}))
    return path


@dataclass(frozen=True)
class Account:
    """A ServiceAccount that speaks for itself."""

    cluster: Kubectl
    kubeconfig: Path

    def ask(self, *arguments: str, manifest: str | None = None) -> subprocess.CompletedProcess[str]:
        return self.cluster.kubectl(f"--kubeconfig={self.kubeconfig}", *arguments, manifest=manifest)

    def is_refused(self, *arguments: str, manifest: str | None = None) -> str:
        """What the API server says to a request that it has to refuse, by RBAC or by a policy."""
        answer = self.ask(*arguments, manifest=manifest)
        assert answer.returncode != 0, f"this was let pass: {' '.join(arguments)}\n{answer.stdout}"
        assert "forbidden" in answer.stderr.lower(), answer.stderr
        return answer.stderr
