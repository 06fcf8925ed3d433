"""What `muster` offers, and what importing it costs."""

import subprocess
import sys

import pytest

import muster


def test_the_public_names():
    assert sorted(muster.__all__) == [
        "Client",
        "ConfigError",
        "Data",
        "DataError",
        "Group",
        "Member",
        "MusterError",
        "Options",
        "RefusedError",
        "Shard",
        "Task",
        "TaskError",
        "parse_options",
    ]
    assert all(hasattr(muster, name) for name in muster.__all__)


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import muster", {"torch", "grpc", "sklearn"}),
        ("import muster.worker", {"torch", "grpc", "sklearn"}),
        ("import muster.preload", {"grpc", "sklearn"}),
    ],
)
def test_imports_stay_cheap(statement, absent):
    check = f"{statement}, sys; print(*({absent!r} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_preloading_touches_no_gpu():
    check = "import muster.preload, torch; print(torch.cuda.is_initialized())"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
