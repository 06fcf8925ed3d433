"""Up, down and status of one cluster.

`up` is level-triggered: it makes what is missing and starts what doesn't run, so it also repairs a cluster that lost a
process, with the same data, ports and keys. A failed or interrupted `up` stops what it started and leaves the logs.
"""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from cluster_parts.addresses import MOST_NODES, Network
from cluster_parts.control_plane import (
    api_server_arguments,
    controller_manager_arguments,
    ensure_keys,
    etcd_arguments,
    scheduler_arguments,
)
from cluster_parts.errors import ClusterError
from cluster_parts.images import load_image
from cluster_parts.namespaces import ensure_bridge, entering, free_network
from cluster_parts.nodes import anchor_of, bring_up_nodes, check_machine, take_down_nodes
from cluster_parts.processes import Process, is_running, stop_process
from cluster_parts.programs import find_kubectl, find_node_programs, find_programs
from cluster_parts.settings import Settings
from cluster_parts.site import Site
from cluster_parts.state import State, free_ports, load_state, locked, save_state


@dataclass(frozen=True, slots=True)
class Part:
    """How one program of the cluster fares."""

    name: str
    pid: int
    runs: bool


def up(settings: Settings, owner: Process | None = None, nodes: int = 0) -> None:
    """Bring the cluster up, or what is missing of it. On failure nothing that this call started is left running."""
    if nodes:
        check_machine()
    programs = find_programs(settings) | (find_node_programs(settings) if nodes else {})
    _take_down_abandoned(settings)
    with locked(settings.folder):
        (settings.folder / "logs").mkdir(parents=True, exist_ok=True)
        before = _known_or_new(settings, owner, nodes)
        if before.nodes and not nodes:
            programs |= find_node_programs(settings)
        keys = ensure_keys(settings.folder / "keys", before.ports.host)
        save_state(settings.folder, before)
        site = Site(settings.folder, keys, programs, before)
        try:
            _bring_up_control_plane(site)
            if before.nodes:
                bring_up_nodes(site, settings.cache)
        except BaseException:
            _stop_all_but(before, site)
            raise


def down(settings: Settings) -> bool:
    """Stop every process of the cluster and remove its folder. False if there was none."""
    with locked(settings.folder):
        state = load_state(settings.folder)
        if state is not None:
            _stop(state)
            take_down_nodes(settings.folder, state)
            shutil.rmtree(settings.folder)
    return state is not None


def load(settings: Settings, archive: Path, only: int | None) -> None:
    """Bring an image to every node, or to one."""
    state = _state_with_nodes(settings)
    ctr = find_node_programs(settings)["ctr"]
    anchors = [anchor_of(state, index) for index in ([only] if only else range(1, state.nodes + 1))]
    with ThreadPoolExecutor(len(anchors)) as pool:
        list(pool.map(lambda anchor: load_image(ctr, anchor, archive), anchors))


def command_on(settings: Settings, index: int, command: list[str]) -> list[str]:
    """What runs `command` in the namespaces of a node."""
    return entering(anchor_of(_state_with_nodes(settings), index), command)


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


def _known_or_new(settings: Settings, owner: Process | None, nodes: int) -> State:
    """The cluster as it is, or as it is to be. Whether it has nodes is settled when it is first brought up."""
    known = load_state(settings.folder)
    if known is None:
        return _with_nodes(State(free_ports(), owner), nodes, _networks(settings))
    if nodes and nodes != known.nodes:
        raise ClusterError(f"The cluster is up with {known.nodes} nodes. Take it down first: scripts/cluster down")
    return known


def _with_nodes(state: State, nodes: int, taken: set[int]) -> State:
    if not nodes:
        return state
    if nodes > MOST_NODES:
        raise ClusterError(f"--nodes {nodes}: at most {MOST_NODES}")
    network: Network = free_network(taken)
    return replace(state, nodes=nodes, network=network.number, ports=replace(state.ports, host=network.gateway))


def _networks(settings: Settings) -> set[int]:
    """The networks of all clusters, also of those that don't run just now."""
    states = [load_state(path.parent) for path in settings.folder.parent.glob("*/state.json")]
    return {state.network for state in states if state}


def _state_with_nodes(settings: Settings) -> State:
    state = load_state(settings.folder)
    if state is None or not state.nodes:
        raise ClusterError("There are no nodes. Bring a cluster up with some: scripts/cluster up --nodes 1")
    return state


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


def _stop_all_but(before: State, site: Site) -> None:
    """Stop what wasn't there `before`. Of nodes that are new, everything."""
    old = set(before.processes.values())
    started = {name: each for name, each in site.state.processes.items() if each not in old}
    _stop(replace(site.state, processes=started))
    if not any("/" in name for name in before.processes):
        take_down_nodes(site.folder, site.state)


def _bring_up_control_plane(site: Site) -> None:
    ports, keys = site.state.ports, site.keys
    if site.state.nodes:
        ensure_bridge(Network(site.state.network))
    site.ensure_program("etcd", etcd_arguments(keys, ports, site.folder / "etcd"))
    site.ensure_program("kube-apiserver", api_server_arguments(keys, ports))
    site.wait("the API server is ready", lambda: site.answers("/readyz"))
    site.write_kubeconfig("kubeconfig", keys.admin)
    if "kube-scheduler" in site.programs:
        config = site.write_kubeconfig("scheduler.kubeconfig", keys.scheduler)
        site.ensure_program("kube-scheduler", scheduler_arguments(config))
    if "kube-controller-manager" in site.programs:
        config = site.write_kubeconfig("controller-manager.kubeconfig", keys.controller_manager)
        site.ensure_program("kube-controller-manager", controller_manager_arguments(keys, config))
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        site.wait("the controllers have made the first service account", lambda: site.answers(account))
