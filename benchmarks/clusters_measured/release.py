"""Two real nodes with the images and the operator on them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from building import Ahead
from clusters import own_nodes
from real_nodes import Nodes, release

CANNOT, SKIPPED = 3, 77
ON_THE_FIRST = {"nodeSelector": {"kubernetes.io/hostname": "n1"}}


@contextmanager
def released(given: str, name: str) -> Iterator[Nodes]:
    """The nodes that are given by name, which have the images; else ones that are brought up, and the images built.

    Leaves with exit code 77 where this machine can't have nodes or images.
    """
    with own_nodes(given, name) as nodes:
        if not isinstance(nodes, Nodes):
            _cannot(nodes)
        if not given:
            _bring_images(nodes)
        with release(nodes, ON_THE_FIRST):
            yield nodes


def _bring_images(nodes: Nodes) -> None:
    with tempfile.TemporaryDirectory(prefix="muster-images-") as folder:
        building = Ahead(Path(folder))
        try:
            images = building.images()
            if isinstance(images, subprocess.CompletedProcess):
                _cannot(images)
            building.load(nodes)
        finally:
            building.stop()


def _cannot(asked: subprocess.CompletedProcess[str]) -> NoReturn:
    print(asked.stderr.strip(), file=sys.stderr)
    sys.exit(SKIPPED if asked.returncode == CANNOT else 1)
