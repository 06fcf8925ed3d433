"""The operator's image: small, without PyTorch, for nobody in particular, and the same each time it is built."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from building import Image, Images, read_image

MOST_BYTES = 250_000_000  # on top of the base


@pytest.fixture(scope="module")
def archive(images: Images) -> Path:
    return images.build("operator")


@pytest.fixture(scope="module")
def operator(archive: Path) -> Image:
    return read_image(archive)


def own_files(image: Image) -> dict[str, int]:
    """The files of what lies on top of the base: the layer with ssh, that with our environment, and all after it."""
    ours = next(number for number, layer in enumerate(image.layers) if "opt/muster/pyvenv.cfg" in layer.files)
    assert "etc/passwd" in image.layers[ours - 1].files, "the layer before ours gives the user a name"
    return {name: size for layer in image.layers[ours - 1 :] for name, size in layer.files.items()}


def test_the_operators_image_is_small_and_without_torch(operator: Image) -> None:
    files = own_files(operator)
    assert any(name.endswith("muster_operator/__main__.py") for name in files)
    assert sum(files.values()) < MOST_BYTES
    assert [name for name in files if "/site-packages/torch/" in name] == []
    assert [name for name in files if "/site-packages/pip/" in name or name.startswith("src")] == []


def test_it_runs_as_nobody_and_keeps_no_authority_of_the_machine_it_was_built_on(operator: Image) -> None:
    assert operator.config["config"]["User"] == "65532:65532"
    assert [name for name in own_files(operator) if name.startswith(("run/secrets", "root", "etc/ssl"))] == []
    assert not any(name.startswith(("PIP_", "SSL_")) for name in operator.config["config"]["Env"])


def test_the_same_source_gives_the_same_image(images: Images, operator: Image) -> None:
    again = read_image(images.build("operator", "--no-cache"))
    assert [layer.digest for layer in again.layers] == [layer.digest for layer in operator.layers]
    assert again.config["created"] == operator.config["created"]


def test_a_tool_that_is_not_there_is_named(images: Images) -> None:
    del images
    script = Path(__file__).resolve().parents[2] / "scripts" / "images"
    asked = subprocess.run(
        [script, "operator"],
        env={"TOOL": "no-such-tool", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 3
    assert "no-such-tool" in asked.stderr
