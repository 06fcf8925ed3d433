"""`checkpoint.keep` and `checkpoint.every`: which models stay in the store."""

from pathlib import Path

import pytest

from muster_coordinator.broadcast import Broadcasts
from muster_coordinator.compression import Down
from muster_coordinator.observer import Unobserved
from muster_coordinator.records import RoundCommit
from muster_coordinator.reference import Encoder
from muster_coordinator.store import FileStore
from muster_coordinator.strategies import FedAvg
from muster_coordinator.workbench import Retention, Workbench


def commit(number: int) -> RoundCommit:
    return RoundCommit(
        round=number,
        attempt=0,
        epoch=1,
        base=f"m{number - 1}",
        model=f"m{number}",
        used=(),
        failed={},
        failed_attempts=0,
        started_s=0.0,
        seconds=1.0,
        bytes_up=0,
        bytes_down=0,
    )


@pytest.mark.parametrize(
    ("keep", "every", "left"),
    [
        (2, None, {"m2", "m8", "m9"}),
        (3, None, {"m2", "m7", "m8", "m9"}),
        (2, 4, {"m2", "m4", "m8", "m9"}),
        (2, 3, {"m2", "m3", "m6", "m8", "m9"}),
    ],
)
def test_old_models_go_and_milestones_stay(tmp_path: Path, keep: int, every: int | None, left: set[str]) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for number in range(10):
        (models / f"m{number}.safetensors").touch()
    store = FileStore(tmp_path, Unobserved())
    broadcasts = Broadcasts(Encoder(tmp_path, Down(), 0), 2)
    bench = Workbench(store, FedAvg(), broadcasts, Retention(keep, every))
    bench.remember([commit(number) for number in range(10)])
    bench.prune(["m2"])  # the best one
    assert {path.stem for path in models.iterdir()} == left
