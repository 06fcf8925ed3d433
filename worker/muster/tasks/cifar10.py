"""CIFAR-10 in the official binary version (Krizhevsky 2009), from a directory; the network of Flower's niid_bench."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import TensorDataset

from muster.errors import DataError
from muster.options import Options, parse_options
from muster.partition import Partition, choose_partition, split
from muster.task import Client, Data
from muster.tasks.files import data_file, read_bytes
from muster.tasks.images import ClassTask, Examples, hold_out

Pixels = NDArray[np.uint8]
_FOLDER = "cifar-10-batches-bin"
_RECORD = 1 + 3 * 32 * 32  # a label, then red, green and blue planes
_SIZES = (6, 16, 120, 84)  # channels of the convolutions, features of the dense layers
_REMEDY = f"give the folder that {_FOLDER} lies in (cifar-10-binary.tar.gz, unpacked)"
_MEAN = np.array([0.4914, 0.4822, 0.4465], np.float32)[:, None, None]
_DEVIATION = np.array([0.2470, 0.2435, 0.2616], np.float32)[:, None, None]


class Cifar10Options(Options, frozen=True):
    """`classesPerClient: 2` is short for `partition: {type: labels, classesPerClient: 2}`; neither: shares alike.

    `trainExamples` uses only the first so many of the 50,000, for machines that are small. `width` multiplies the
    channels and features of every layer but the last. With `perClass` each class's accuracy is measured by itself.
    """

    classes_per_client: int | None = None
    partition: Partition | None = None
    train_examples: int = 50_000
    held_out: float = 0.1
    per_class: bool = False
    width: Annotated[float, msgspec.Meta(gt=0)] = 1.0


class Cifar10(ClassTask):
    """Ten classes of small photographs, two convolutions and three dense layers."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.options = parse_options(Cifar10Options, config)
        self.per_class = self.options.per_class
        self.partition = choose_partition(self.options.classes_per_client, self.options.partition)

    def build_model(self) -> nn.Module:
        first, second, third, fourth = (max(1, round(size * self.options.width)) for size in _SIZES)
        return nn.Sequential(
            nn.Conv2d(3, first, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(second * 5 * 5, third),
            nn.ReLU(),
            nn.Linear(third, fourth),
            nn.ReLU(),
            nn.Linear(fourth, 10),
        )

    def load_data(self, client: Client) -> Data:
        names = [f"data_batch_{number}.bin" for number in range(1, 6)]
        pixels, labels = _read(_folder(client.data_dir), names, self.options.train_examples)
        share = split(labels, client.clients_total, self.partition, client.seed)[client.ordinal]
        return hold_out(_examples(pixels[share], labels[share]), self.options.held_out, client.seed)

    def load_test_data(self, client: Client) -> TensorDataset:
        return _examples(*_read(_folder(client.data_dir), ["test_batch.bin"], 10_000)).dataset()


def _folder(data_dir: Path | None) -> Path:
    return data_file(data_dir, _FOLDER, _REMEDY)


def _read(folder: Path, names: list[str], limit: int) -> tuple[Pixels, NDArray[np.int64]]:
    records = np.concatenate([_records(folder / name) for name in names])[:limit]
    return records[:, 1:], records[:, 0].astype(np.int64)


def _records(path: Path) -> Pixels:
    if not path.exists():
        raise DataError(f"{path}: no such file; {_REMEDY}")
    data = np.frombuffer(read_bytes(path), np.uint8)
    if len(data) == 0 or len(data) % _RECORD or data[::_RECORD].max() > 9:
        raise DataError(
            f"{path}: not in CIFAR-10's binary version ({_RECORD} bytes a record, labels 0 to 9); {_REMEDY}"
        )
    return data.reshape(-1, _RECORD)


def _examples(pixels: Pixels, labels: NDArray[np.int64]) -> Examples:
    images: NDArray[np.float32] = pixels.reshape(-1, 3, 32, 32).astype(np.float32) / np.float32(255)
    return Examples((images - _MEAN) / _DEVIATION, labels)
