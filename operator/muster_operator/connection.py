"""Where the API server is and how to show who we are: a service account in a pod, else a kubeconfig."""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from muster_operator.errors import SettingsError
from muster_operator.objects import dig

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Connection:
    """An API server. The token file is read at every request: kubelets renew tokens long before they expire."""

    server: str
    authority: bytes | None = None
    token_file: Path | None = None
    token: str | None = field(default=None, repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)

    def current_token(self) -> str | None:
        return self.token_file.read_text().strip() if self.token_file else self.token

    def tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.authority.decode() if self.authority else None)
        if self.certificate and self.key:
            with tempfile.NamedTemporaryFile() as file:  # the ssl module reads keys from files only
                file.write(self.certificate + b"\n" + self.key)
                file.flush()
                context.load_cert_chain(file.name)
        return context


def find_connection(environment: Mapping[str, str]) -> Connection:
    """Raises SettingsError where there is neither a service account nor a usable kubeconfig."""
    if "KUBERNETES_SERVICE_HOST" in environment and (SERVICE_ACCOUNT / "token").exists():
        host, port = environment["KUBERNETES_SERVICE_HOST"], environment.get("KUBERNETES_SERVICE_PORT", "443")
        server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
        return Connection(server, (SERVICE_ACCOUNT / "ca.crt").read_bytes(), token_file=SERVICE_ACCOUNT / "token")
    path = Path(environment.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    try:
        return _from_kubeconfig(yaml.safe_load(path.read_text()), path)
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"no cluster: not in a pod, and the kubeconfig {path} can't be read: {error}") from error


def _from_kubeconfig(config: Any, path: Path) -> Connection:
    wanted = dig(config, "current-context")
    context = _named(config, "contexts", "context", wanted)
    cluster = _named(config, "clusters", "cluster", context.get("cluster"))
    user = _named(config, "users", "user", context.get("user"))
    if not cluster.get("server"):
        raise SettingsError(f"{path}: its current context {wanted} names no server")
    if "exec" in user or "auth-provider" in user:
        raise SettingsError(f"{path}: credentials by a plugin; give a token or a certificate, or run in the cluster")
    return Connection(
        cluster["server"].rstrip("/"),
        _bytes(cluster, "certificate-authority", path),
        token_file=path.parent / user["tokenFile"] if user.get("tokenFile") else None,
        token=user.get("token"),
        certificate=_bytes(user, "client-certificate", path),
        key=_bytes(user, "client-key", path),
    )


def _named(config: Any, plural: str, singular: str, name: object) -> dict[str, Any]:
    entries = dig(config, plural) or ()
    return next((one.get(singular) or {} for one in entries if one.get("name") == name), {})


def _bytes(entry: dict[str, Any], name: str, path: Path) -> bytes | None:
    if entry.get(f"{name}-data"):
        return base64.b64decode(entry[f"{name}-data"])
    return (path.parent / entry[name]).read_bytes() if entry.get(name) else None
