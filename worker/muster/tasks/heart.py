"""Heart disease in four real hospitals (UCI, Janosi et al. 1988; CC BY 4.0), one hospital a client.

Read as FLamby's Fed-Heart-Disease does (Terrail et al. 2022): three columns that are mostly missing are dropped, then
rows with a gap; two categories become one-hot; what is asked is whether there is any disease. The model is logistic
regression. Measurements are scaled by constants fixed here, near the published means and deviations of the whole
collection: hospitals stay comparable, and nobody has to tell anybody else anything about its patients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import Dataset, TensorDataset

from muster.batches import union
from muster.errors import ConfigError, DataError
from muster.options import Options, parse_options
from muster.task import Client, Data, Task
from muster.tasks.files import data_file, read_text

HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
_REMEDY = "give a folder with the UCI files processed.{cleveland,hungarian,switzerland,va}.data"
_COLUMNS = 14
_MOSTLY_MISSING = (10, 11, 12)
_LABEL = 13
_CATEGORIES = {2: (2.0, 3.0, 4.0), 6: (1.0, 2.0)}  # chest pain and ECG, one-hot; the first value of each is all zeros
_SCALES = {
    0: (54, 9),
    1: (0.5, 0.5),
    3: (132, 19),
    4: (200, 110),
    5: (0.2, 0.4),
    7: (138, 26),
    8: (0.4, 0.5),
    9: (0.9, 1.1),
}
FEATURES = len(_SCALES) + sum(map(len, _CATEGORIES.values()))


class HeartOptions(Options, frozen=True):
    """A third of each hospital's rows is its part of the test set; `splitSeed` (default: the job's seed) draws it."""

    split_seed: int | None = None
    test_fraction: float = 1 / 3


class Heart(Task):
    """Disease or none, from 13 features of a patient."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.options = parse_options(HeartOptions, config)

    def build_model(self) -> nn.Module:
        return nn.Linear(FEATURES, 1)

    def load_data(self, client: Client) -> Data:
        if client.clients_total > len(HOSPITALS):
            raise ConfigError(
                f"spec.pools: heart has {len(HOSPITALS)} hospitals, one a client; {client.clients_total} asked"
            )
        train, test = self._hospital(client, HOSPITALS[client.ordinal])
        return Data(train, test)

    def load_test_data(self, client: Client) -> Dataset[Any] | None:
        """The test rows of all hospitals; None where not all of their files are, as at a real hospital."""
        if not all(_file(client.data_dir, name).exists() for name in HOSPITALS):
            return None
        return union([self._hospital(client, name)[1] for name in HOSPITALS])

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(outputs.squeeze(1), targets)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return {"accuracy": ((outputs.squeeze(1) > 0) == (targets > 0.5)).float().mean().item()}

    def _hospital(self, client: Client, name: str) -> tuple[TensorDataset, TensorDataset]:
        features, labels = read_hospital(_file(client.data_dir, name))
        seed = client.seed if self.options.split_seed is None else self.options.split_seed
        order = np.random.default_rng((seed, HOSPITALS.index(name))).permutation(len(labels))
        held = math.ceil(len(labels) * self.options.test_fraction)
        train, test = order[held:], order[:held]
        return _dataset(features[train], labels[train]), _dataset(features[test], labels[test])


def read_hospital(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scaled features (rows x 13) and labels (0 or 1) of the complete rows.

    Raises:
        DataError: the file is missing or isn't one of the UCI files.
    """
    rows = [row.split(",") for row in read_text(path).splitlines() if row.strip()]
    kept = [column for column in range(_COLUMNS) if column not in _MOSTLY_MISSING]
    try:
        complete = [[float(row[column]) for column in kept] for row in rows if "?" not in [row[c] for c in kept]]
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: not a file of 14 comma-separated numbers a row ({error}); {_REMEDY}") from error
    if not complete:
        raise DataError(f"{path}: no complete row; {_REMEDY}")
    table = np.full((len(complete), _COLUMNS), np.nan)
    table[:, kept] = complete
    one_hot = [table[:, column] == value for column, values in _CATEGORIES.items() for value in values]
    scaled = [(table[:, column] - mean) / deviation for column, (mean, deviation) in _SCALES.items()]
    return np.column_stack([*scaled, *one_hot]).astype(float), (table[:, _LABEL] > 0).astype(float)


def _dataset(features: NDArray[np.float64], labels: NDArray[np.float64]) -> TensorDataset:
    return TensorDataset(torch.tensor(features, dtype=torch.float32), torch.tensor(labels, dtype=torch.float32))


def _file(data_dir: Path | None, hospital: str) -> Path:
    return data_file(data_dir, f"processed.{hospital}.data", _REMEDY)
