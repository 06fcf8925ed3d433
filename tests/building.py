"""The project's images, built as `make images` builds them, and looked into: layers, user, files."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from charting import ROOT

IMAGES, BASE = ROOT / "scripts" / "images", ROOT / "scripts" / "base-image"


class Loading(Protocol):
    """A cluster that takes images."""

    def script(self, *arguments: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image: its digest, and its files with their sizes."""

    digest: str
    files: dict[str, int]


@dataclass(frozen=True, slots=True)
class Image:
    """What an archive says of its image."""

    config: dict[str, Any]
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class Images:
    """A folder for archives, and the base that images are built on ("" is python:3.11-slim)."""

    folder: Path
    base: str

    def build(self, name: str, *arguments: str) -> Path:
        """Build an image, whatever time it takes; its archive."""
        environment = os.environ | ({"BASE_IMAGE": self.base} if self.base else {}) | {"ARGUMENTS": " ".join(arguments)}
        command = [IMAGES, "--archives", str(self.folder), name]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
        return self.folder / f"muster-{name}.tar"


class Ahead:
    """Both images, built while other tests run: it takes minutes, of which most are waiting."""

    def __init__(self, folder: Path) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._found = self._thread.submit(build_images, folder)
        self._archives = [self._thread.submit(self._build, name) for name in ("operator", "worker")]

    def images(self) -> Images | subprocess.CompletedProcess[str]:
        """What images are built with, as `build_images` says it."""
        return self._found.result()

    def load(self, nodes: Loading) -> None:
        """Bring both to every node, once they are there. Archives are gigabytes, so they go at once."""
        for archive in self._archives:
            found = archive.result()
            nodes.script("load", str(found))
            found.unlink()

    def stop(self) -> None:
        """What has begun is waited for."""
        self._thread.shutdown(cancel_futures=True)

    def _build(self, name: str) -> Path:
        found = self._found.result()
        assert isinstance(found, Images), found.stderr
        return found.build(name)


def build_images(folder: Path) -> Images | subprocess.CompletedProcess[str]:
    """What images are built with here; what the script for the base said, where there can't be one."""
    base = os.environ.get("BASE_IMAGE", "")
    if base:
        return Images(folder, base)
    made = subprocess.run([BASE], capture_output=True, text=True, check=False)
    return made if made.returncode else Images(folder, made.stdout.strip())


def read_image(archive: Path) -> Image:
    """An archive as docker saves it."""
    with tarfile.open(archive) as tar:
        [about] = json.load(_member(tar, "manifest.json"))
        config = json.load(_member(tar, about["Config"]))
        digests = config["rootfs"]["diff_ids"]
        layers = [_layer(tar, path, digest) for path, digest in zip(about["Layers"], digests, strict=True)]
    return Image(config, tuple(layers))


def _layer(tar: tarfile.TarFile, path: str, digest: str) -> Layer:
    with tarfile.open(fileobj=_member(tar, path)) as layer:
        return Layer(digest, {one.name: one.size for one in layer})


def _member(tar: tarfile.TarFile, path: str) -> Any:
    entry = tar.getmember(path)
    if entry.issym() or entry.islnk():  # a layer that is there twice
        entry = tar.getmember(str((Path(path).parent / entry.linkname).as_posix()) if entry.issym() else entry.linkname)
    return tar.extractfile(entry)
