"""What the operator is told when it starts, read once from its environment into a typed value."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from muster_operator.build.common import Routes
from muster_operator.build.environment import handed_on
from muster_operator.build.pools import LobbyAccount
from muster_operator.errors import SettingsError
from muster_telemetry.address import AddressError, parse_address
from muster_telemetry.logs import LogFormat, log_format_of

_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_WEEK_MINUTES = 7 * 24 * 60  # the longest that coordinators certify keys for
_IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class LobbyInstall:
    """The lobby of this installation. `address` is where sites dial it; `secret` names what its certificate is kept in,
    and its Service.
    """

    address: str
    secret: str
    account: LobbyAccount

    @property
    def authority_name(self) -> str:
        return f"{self.secret}-authority"

    def hosts(self, namespace: str) -> tuple[str, ...]:
        """What it is called by those who dial it."""
        inside = f"{self.secret}.{namespace}"
        return (self.address.rpartition(":")[0], inside, f"{inside}.svc")


@dataclass(frozen=True, slots=True)
class Install:
    """The images that jobs use where they name none. A job keeps those it was started with.

    `environment` is handed on to processes that are started from now on, and `pull_secrets`, names of Secrets in the
    job's namespace, open the registries of their images. `worker_certificate_minutes` is for how long a coordinator
    certifies a worker's key.
    """

    coordinator_image: str
    worker_image: str
    environment: tuple[tuple[str, str], ...] = ()
    pull_secrets: tuple[str, ...] = ()
    worker_certificate_minutes: int = 60
    lobby: LobbyInstall | None = None
    routes: Routes | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """`namespaces` empty means the whole cluster. `lease_namespace` is where the operator itself lives."""

    install: Install
    lease_namespace: str
    identity: str
    namespaces: tuple[str, ...] = ()
    probe_port: int = 8080
    reconcilers: int = 4
    resync_s: float = 300.0
    log_format: LogFormat = "text"
    log_level: str = "INFO"


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Raises SettingsError, naming the variable."""
    namespace = environment.get("MUSTER_LEASE_NAMESPACE") or _own_namespace()
    return Settings(
        install=Install(
            coordinator_image=_required(environment, "MUSTER_COORDINATOR_IMAGE"),
            worker_image=_required(environment, "MUSTER_WORKER_IMAGE"),
            environment=handed_on(environment),
            pull_secrets=_names(environment, "MUSTER_IMAGE_PULL_SECRETS"),
            worker_certificate_minutes=_number(environment, "MUSTER_WORKER_CERTIFICATE_MINUTES", 60, _WEEK_MINUTES),
            lobby=_lobby(environment, namespace),
            routes=_routes(environment, namespace),
        ),
        lease_namespace=namespace,
        identity=f"{socket.gethostname()}-{os.getpid()}",
        namespaces=_names(environment, "MUSTER_NAMESPACES"),
        probe_port=_number(environment, "MUSTER_PROBE_PORT", 8080),
        reconcilers=_number(environment, "MUSTER_RECONCILERS", 4),
        resync_s=float(_number(environment, "MUSTER_RESYNC_SECONDS", 300)),
        log_format=_log_format(environment),
        log_level=_log_level(environment),
    )


def _lobby(environment: Mapping[str, str], namespace: str) -> LobbyInstall | None:
    address = environment.get("MUSTER_LOBBY_ADDRESS")
    if not address:
        return None
    try:
        parse_address(address)
    except AddressError as error:
        raise SettingsError(f"MUSTER_LOBBY_ADDRESS: {error}") from error
    name = environment.get("MUSTER_LOBBY_NAME") or "muster-lobby"
    return LobbyInstall(address, name, LobbyAccount(namespace, name))


def _routes(environment: Mapping[str, str], namespace: str) -> Routes | None:
    gateway = environment.get("MUSTER_GATEWAY")
    if not gateway:
        return None
    domain = environment.get("MUSTER_GATEWAY_DOMAIN")
    if not domain:
        raise SettingsError("MUSTER_GATEWAY_DOMAIN: not set; coordinators are called JOB.NAMESPACE.DOMAIN there")
    return Routes(
        gateway=gateway,
        namespace=environment.get("MUSTER_GATEWAY_NAMESPACE") or namespace,
        domain=domain,
        port=_number(environment, "MUSTER_GATEWAY_PORT", 443),
        section=environment.get("MUSTER_GATEWAY_SECTION", ""),
    )


def _required(environment: Mapping[str, str], name: str) -> str:
    if not environment.get(name):
        raise SettingsError(f"{name}: not set; give the image that jobs use where they name none")
    return environment[name]


def _names(environment: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(filter(None, environment.get(name, "").split(",")))


def _number(environment: Mapping[str, str], name: str, default: int, most: int | None = None) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise SettingsError(f"{name}: {text} is not a whole number above 0")
    if most is not None and int(text) > most:
        raise SettingsError(f"{name}: {text} is above {most}")
    return int(text)


def _log_format(environment: Mapping[str, str]) -> LogFormat:
    try:
        return log_format_of(environment)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _log_level(environment: Mapping[str, str]) -> str:
    level = (environment.get("MUSTER_LOG_LEVEL") or "info").upper()
    if level not in _LOG_LEVELS:
        raise SettingsError(f"MUSTER_LOG_LEVEL: {level.lower()} is not one of {', '.join(_LOG_LEVELS).lower()}")
    return level


def _own_namespace() -> str:
    try:
        return (_IN_CLUSTER / "namespace").read_text().strip()
    except OSError:
        return "default"
