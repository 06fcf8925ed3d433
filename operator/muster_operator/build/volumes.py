"""What a worker's pod has mounted: its clients' data, the place for their state, shared memory."""

from __future__ import annotations

from muster_operator.build.pods import without_nothing
from muster_operator.objects import Object
from muster_spec.pool_types import ClientData, ClientState, DataVolume, PoolData, Template

DATA_FOLDER = "/data"
STATE_FOLDER = "/var/lib/muster/state"


def place_of(data: PoolData | None, index: int | None) -> ClientData:
    """Where data lies: one client's, or that of the whole pool."""
    if data is None:
        return ClientData()
    own = data.per_client[index] if index is not None else ClientData(volume=data.volume)
    return ClientData(own.path or data.path, own.volume, own.node_selector)


def data_folder(place: ClientData) -> str | None:
    """Where a worker finds its data; None where the task brings it along."""
    return place.path or (DATA_FOLDER if place.volume else None)


def state_folder(state: ClientState | None) -> str | None:
    """Where a worker keeps its clients' state; None where it goes with the pod."""
    if state is None or state.type == "Ephemeral":
        return None
    return state.path.path if state.path else STATE_FOLDER


def worker_volumes(template: Template, place: ClientData, state: ClientState | None) -> list[tuple[Object, Object]]:
    """The pod's volumes, each with its mount."""
    found: list[tuple[Object, Object]] = []
    if template.shared_memory:
        memory = {"medium": "Memory", "sizeLimit": template.shared_memory}
        found.append(({"name": "shared-memory", "emptyDir": memory}, {"mountPath": "/dev/shm"}))  # noqa: S108
    if place.volume:
        found.append(
            ({"name": "data"} | _source(place.volume), {"mountPath": data_folder(place)} | _access(place.volume))
        )
    if state and state.volume:
        claim = {"claimName": state.volume.claim_name}
        found.append(({"name": "state", "persistentVolumeClaim": claim}, {"mountPath": STATE_FOLDER}))
    return found


def _source(volume: DataVolume) -> Object:
    if volume.config_map:
        return {"configMap": {"name": volume.config_map.name}}
    if volume.secret:
        return {"secret": {"secretName": volume.secret.name}}
    claim = volume.persistent_volume_claim
    return {"persistentVolumeClaim": {"claimName": claim.claim_name, "readOnly": claim.read_only}} if claim else {}


def _access(volume: DataVolume) -> Object:
    claim = volume.persistent_volume_claim
    if claim is None:
        return {"readOnly": True}
    return without_nothing({"readOnly": claim.read_only, "subPath": claim.sub_path})
