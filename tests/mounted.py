"""What a kubelet shows a pod, from the objects of a cluster in memory: ConfigMaps and Secrets as folders whose content
is swapped all at once when the objects change, and empty folders for claims and scratch space."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from pathlib import Path

from muster_operator.objects import Object, dig
from operating import Cluster

ROOT_CERTIFICATE = "kube-root-ca.crt"  # a config map that each namespace has


class Kubelet:
    """Each Job's pod has its folders under `root`."""

    def __init__(self, cluster: Cluster, root: Path) -> None:
        self._cluster = cluster
        self._root = root
        self._versions = itertools.count(1)

    def command(self, job: str) -> list[str]:
        """The command of a Job's pod, with the folders that it names where they are here."""
        pod = self._pod(job)
        container = pod["containers"][0]
        mounts = {one["mountPath"]: str(self.folder(job, one["name"])) for one in container["volumeMounts"]}
        self.show(job)
        return [_moved(word, mounts) for word in container["command"]]

    def folder(self, job: str, volume: str) -> Path:
        """Where a volume of a Job's pod is."""
        folder = self._root / job / volume
        if not folder.exists():
            folder.mkdir(parents=True)
            self.show(job)
        return folder

    def show(self, job: str) -> None:
        """The volumes, with what the objects hold now."""
        for volume in self._pod(job)["volumes"]:
            content = dict(self._content(volume))
            if content:
                self._swap(self._root / job / volume["name"], content)

    def _pod(self, job: str) -> Object:
        found: Object = self._cluster.child("Job", job)["spec"]["template"]["spec"]
        return found

    def _content(self, volume: Object) -> Iterator[tuple[str, bytes]]:
        for source in volume.get("projected", {}).get("sources", ()):
            yield from self._content(source)
        if "serviceAccountToken" in volume:
            yield volume["serviceAccountToken"]["path"], b"a token of the cluster's"
        elif dig(volume, "configMap", "name") == ROOT_CERTIFICATE:
            yield "ca.crt", b""
        elif "configMap" in volume:
            data = self._cluster.child("ConfigMap", volume["configMap"]["name"])["data"]
            yield from ((name, text.encode()) for name, text in data.items())
        elif "secret" in volume:
            data = self._cluster.child("Secret", volume["secret"].get("secretName") or volume["secret"]["name"])["data"]
            yield from ((name, base64.b64decode(text)) for name, text in data.items())

    def _swap(self, folder: Path, content: dict[str, bytes]) -> None:
        version = folder / f"..{next(self._versions)}"
        version.mkdir(parents=True)
        for name, value in content.items():
            (version / name).write_bytes(value)
        aside = folder / "..data_tmp"
        aside.symlink_to(version.name)
        aside.replace(folder / "..data")
        for name in content:
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(f"..data/{name}")


def _moved(word: str, mounts: dict[str, str]) -> str:
    for place, folder in mounts.items():
        if word == place or word.startswith(f"{place}/"):
            return folder + word.removeprefix(place)
    return word
