"""Up, down and status of one cluster.

`up` is level-triggered: it makes what is missing and starts what doesn't run, so it also repairs a cluster that lost a
process, with the same data, ports and keys. A failed or interrupted `up` stops what it started and leaves the logs.
"""

from __future__ import annotations

import http.client
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path

from cluster_parts.certificates import Pair, write_private
from cluster_parts.control_plane import (
    Keys,
    api_server_arguments,
    build_kubeconfig,
    controller_manager_arguments,
    ensure_keys,
    etcd_arguments,
    scheduler_arguments,
)
from cluster_parts.errors import ClusterError
from cluster_parts.processes import Process, is_running, start_process, stop_process
from cluster_parts.programs import find_kubectl, find_programs
from cluster_parts.settings import Settings
from cluster_parts.state import State, free_ports, load_state, locked, save_state

_READY_WITHIN_S = 120.0
_LOG_LINES = 15


@dataclass(frozen=True, slots=True)
class Part:
    """How one program of the cluster fares."""

    name: str
    pid: int
    runs: bool


def up(settings: Settings, owner: Process | None = None) -> None:
    """Bring the cluster up, or what is missing of it. On failure nothing that this call started is left running."""
    programs = find_programs(settings)
    _take_down_abandoned(settings)
    with locked(settings.folder):
        (settings.folder / "logs").mkdir(parents=True, exist_ok=True)
        keys = ensure_keys(settings.folder / "keys")
        before = load_state(settings.folder) or State(free_ports(), owner)
        save_state(settings.folder, before)
        cluster = _Cluster(settings.folder, keys, programs, before)
        try:
            cluster.bring_up()
        except BaseException:
            cluster.stop_all_but(before)
            raise


def down(settings: Settings) -> bool:
    """Stop every process of the cluster and remove its folder. False if there was none."""
    with locked(settings.folder):
        state = load_state(settings.folder)
        if state is not None:
            _stop(state)
            shutil.rmtree(settings.folder)
    return state is not None


def read_parts(settings: Settings) -> list[Part]:
    """Every program that was started and whether it still runs; empty where there is no cluster."""
    state = load_state(settings.folder)
    found = state.processes.items() if state else ()
    return [Part(name, process.pid, is_running(process)) for name, process in found]


def check_existing(settings: Settings) -> str:
    """What the existing cluster that KUBECONFIG names says of its version; raises ClusterError if it doesn't answer."""
    command = [str(find_kubectl(settings)), "version", "--request-timeout=10s"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ClusterError(
            f"The cluster of KUBECONFIG={settings.existing} doesn't answer:\n{result.stderr.strip()}\n"
            "Start it, or unset KUBECONFIG to have one brought up here."
        )
    return result.stdout.strip().splitlines()[-1]


def _take_down_abandoned(settings: Settings) -> None:
    """Clusters whose owner was killed before it could take them down."""
    for path in settings.folder.parent.glob("*/state.json"):
        state = load_state(path.parent)
        if state and state.owner and not is_running(state.owner):
            down(replace(settings, folder=path.parent))


def _stop(state: State) -> None:
    """The last started first, so that etcd outlives the API server, which outlives its clients."""
    for process in reversed([*state.processes.values()]):
        stop_process(process)


class _Cluster:
    """One `up` under way."""

    def __init__(self, folder: Path, keys: Keys, programs: dict[str, Path], state: State) -> None:
        self._folder = folder
        self._keys = keys
        self._programs = programs
        self._state = state

    def bring_up(self) -> None:
        ports, keys = self._state.ports, self._keys
        self._ensure_running("etcd", etcd_arguments(keys, ports, self._folder / "etcd"))
        self._ensure_running("kube-apiserver", api_server_arguments(keys, ports))
        self._wait("the API server is ready", lambda: self._answers("/readyz"))
        self._write_kubeconfig("kubeconfig", keys.admin)
        if "kube-scheduler" in self._programs:
            config = self._write_kubeconfig("scheduler.kubeconfig", keys.scheduler)
            self._ensure_running("kube-scheduler", scheduler_arguments(config))
        if "kube-controller-manager" in self._programs:
            config = self._write_kubeconfig("controller-manager.kubeconfig", keys.controller_manager)
            self._ensure_running("kube-controller-manager", controller_manager_arguments(keys, config))
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            self._wait("the controllers have made the first service account", lambda: self._answers(account))

    def stop_all_but(self, before: State) -> None:
        """Stop what wasn't there `before`."""
        old = set(before.processes.values())
        started = {name: each for name, each in self._state.processes.items() if each not in old}
        _stop(replace(self._state, processes=started))

    def _ensure_running(self, name: str, arguments: list[str]) -> None:
        known = self._state.processes.get(name)
        if known and is_running(known):
            return
        argv = [str(self._programs[name]), *arguments]
        self._state = self._state.with_process(name, start_process(argv, self._folder, self._log(name)))
        save_state(self._folder, self._state)

    def _wait(self, what: str, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        while not is_so():
            for name, process in self._state.processes.items():
                if not is_running(process):
                    raise ClusterError(f"{name} ended while waiting until {what}.\n{self._last_words(name)}")
            if time.monotonic() > deadline:
                last = list(self._state.processes)[-1]
                raise ClusterError(f"Not within {_READY_WITHIN_S:.0f} s: {what}.\n{self._last_words(last)}")
            time.sleep(0.1)

    def _answers(self, path: str) -> bool:
        """Whether the API server answers `path` with 200."""
        context = ssl.create_default_context(cafile=str(self._keys.authority.pair.certificate))
        context.load_cert_chain(self._keys.admin.certificate, self._keys.admin.key)
        connection = http.client.HTTPSConnection("127.0.0.1", self._state.ports.api, context=context, timeout=5)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.request("GET", path)
            return connection.getresponse().status == HTTPStatus.OK
        return False

    def _write_kubeconfig(self, name: str, user: Pair) -> Path:
        path = self._folder / name
        write_private(path, build_kubeconfig(self._keys, self._state.ports, user).encode())
        return path

    def _log(self, name: str) -> Path:
        return self._folder / "logs" / f"{name}.log"

    def _last_words(self, name: str) -> str:
        lines = self._log(name).read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return "\n".join([f"The end of {self._log(name)}:", *lines])
