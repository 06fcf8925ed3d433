"""MedMNIST (Yang et al. 2023): small medical images, from one npz file with train, val and test parts."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.utils.data import TensorDataset

from muster.errors import DataError
from muster.options import Options, parse_options
from muster.partition import Partition, choose_partition, split
from muster.task import Client, Data, Task
from muster.tasks.files import data_file
from muster.tasks.images import Examples, hold_out

_REMEDY = "give a folder with the MedMNIST file that spec.task.config.file names"


class MedMnistOptions(Options, frozen=True):
    """`file` is the npz in the data directory; `classes` and `channels` are those of its images (28x28).

    The partition is as in the other image tasks. The file's validation part is not used: clients hold out their own.
    """

    file: str
    classes: int = 2
    channels: int = 1
    classes_per_client: int | None = None
    partition: Partition | None = None
    held_out: float = 0.1


class MedMnist(Task):
    """One label an image, a convolutional network of two layers."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.options = parse_options(MedMnistOptions, config)
        self.partition = choose_partition(self.options.classes_per_client, self.options.partition)

    def build_model(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(self.options.channels, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, 64),
            nn.ReLU(),
            nn.Linear(64, self.options.classes),
        )

    def load_data(self, client: Client) -> Data:
        train = self._read(client.data_dir, "train")
        share = split(train.labels, client.clients_total, self.partition, client.seed)[client.ordinal]
        return hold_out(train[share], self.options.held_out, client.seed)

    def load_test_data(self, client: Client) -> TensorDataset:
        return self._read(client.data_dir, "test").dataset()

    def _read(self, data_dir: Path | None, part: str) -> Examples:
        path = data_file(data_dir, self.options.file, _REMEDY)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        except FileNotFoundError as error:
            raise DataError(f"{path}: no such file; {_REMEDY}") from error
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: not a MedMNIST npz file ({error}); {_REMEDY}") from error
        return self._examples(path, images, labels)

    def _examples(self, path: Path, images: np.ndarray, labels: np.ndarray) -> Examples:
        channels = images.shape[3] if images.ndim == 4 else 1
        options = self.options
        if images.shape[1:3] != (28, 28) or channels != options.channels or labels.size != len(images):
            raise DataError(f"{path}: images are {images.shape}; this task takes 28x28, channels: {options.channels}")
        if labels.max() >= options.classes:
            raise DataError(f"{path}: has label {labels.max()}; set spec.task.config.classes to {labels.max() + 1}")
        pixels = images.reshape(-1, 28, 28, channels).transpose(0, 3, 1, 2).astype(np.float32)
        return Examples(pixels / np.float32(127.5) - np.float32(1), labels.reshape(-1).astype(np.int64))
