"""Brings images to nodes: archives that docker, podman or buildah saved, and the pause image, which is made here."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

from cluster_parts.errors import ClusterError
from cluster_parts.namespaces import entering, run
from cluster_parts.node_files import PAUSE, SOCKET
from cluster_parts.processes import Process

# Every pod has one such process, which holds its namespaces and takes in what ends there without a parent.
_PAUSE_PROGRAM = """package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	told := make(chan os.Signal, 8)
	signal.Notify(told, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for each := range told {
		if each != syscall.SIGCHLD {
			return
		}
		for {
			if pid, _ := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 {
				break
			}
		}
	}
}
"""


def load_image(ctr: Path, anchor: Process, archive: Path) -> str:
    """Bring an archive to a node. Its layers are unpacked, and not kept besides."""
    if not archive.is_file():
        raise ClusterError(f"{archive} is no file. Make one with: scripts/images --archives FOLDER")
    command = [str(ctr), "--address", str(SOCKET), "--namespace", "k8s.io", "images", "import"]
    return run(entering(anchor, [*command, "--local", "--discard-unpacked-layers", str(archive.resolve())]))


def ensure_pause_image(cache: Path) -> Path:
    """The archive with the pause image, made where it isn't there yet."""
    archive = cache / "images" / "pause-1.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        program = _build_pause(archive.parent)
        aside = archive.with_suffix(f".{os.getpid()}")
        aside.write_bytes(docker_archive(PAUSE, {"pause": program}))
        aside.rename(archive)
    return archive


def _build_pause(folder: Path) -> bytes:
    source, program = folder / f"pause-{os.getpid()}.go", folder / f"pause-{os.getpid()}"
    source.write_text(_PAUSE_PROGRAM)
    command = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(program), str(source)]
    try:
        subprocess.run(command, env=os.environ | {"CGO_ENABLED": "0"}, check=True, capture_output=True)
        return program.read_bytes()
    except (OSError, subprocess.CalledProcessError) as error:
        raise ClusterError(f"The pause image needs Go to be built: {error}") from error
    finally:
        source.unlink()
        program.unlink(missing_ok=True)


def docker_archive(name: str, programs: dict[str, bytes]) -> bytes:
    """An image of one layer that holds these programs and runs the first of them."""
    layer = _tar(programs)
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {"Entrypoint": [f"/{next(iter(programs))}"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    index = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {"manifest.json": index, "config.json": config}
    return _tar({path: json.dumps(value).encode() for path, value in files.items()} | {"layer.tar": layer})


def _tar(files: dict[str, bytes]) -> bytes:
    """The same bytes for the same files, whenever it is made."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
