"""Shakespeare, next character, one speaking role or more a client: the natural split of LEAF (Caldas et al. 2018).

The file is JSON, ``{"play/role": "spoken text"}``. Roles with too little to say are left out; the last tenth of each
role's text is its part of the test set, as in LEAF (a split in time, so that no test window overlaps training text).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from muster.errors import DataError
from muster.options import Options, parse_options
from muster.partition import by_key
from muster.task import Client, Data, Task
from muster.tasks.files import data_file, read_text

# LEAF's alphabet; a character outside it is read as a space.
ALPHABET = "\n !\"&'(),-.0123456789:;>?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz}"
_CODES = {character: code for code, character in enumerate(ALPHABET)}
_REMEDY = "give a folder with a JSON file of {role: text}, named by spec.task.config.file"


class ShakespeareOptions(Options, frozen=True):
    """`window` characters predict the next; windows start every `stride` characters; roles of `minCharacters` count."""

    file: str = "shakespeare_roles.json"
    window: int = 80
    stride: int = 10
    min_characters: int = 10_000
    hidden: int = 128


class NextCharacter(nn.Module):
    """An embedding, an LSTM, and the scores of the next character."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(ALPHABET), 8)
        self.lstm = nn.LSTM(8, hidden, batch_first=True)
        self.scores = nn.Linear(hidden, len(ALPHABET))

    def forward(self, text: Tensor) -> Tensor:
        states, _ = self.lstm(self.embedding(text))
        scores: Tensor = self.scores(states[:, -1])
        return scores


class Shakespeare(Task):
    """What comes next, after 80 characters of one role."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.options = parse_options(ShakespeareOptions, config)

    def build_model(self) -> nn.Module:
        return NextCharacter(self.options.hidden)

    def load_data(self, client: Client) -> Data:
        texts = self._texts(client.data_dir)
        sizes = [name for name, text in texts.items() for _ in range(len(text) // self.options.stride)]
        share = by_key(sizes, client.clients_total)[client.ordinal]
        mine = sorted({sizes[index] for index in share})
        return Data(*(self._windows([_cut(texts[name])[part] for name in mine]) for part in (0, 1)))

    def load_test_data(self, client: Client) -> TensorDataset:
        return self._windows([_cut(text)[1] for text in self._texts(client.data_dir).values()])

    def _texts(self, data_dir: Path | None) -> dict[str, str]:
        path = data_file(data_dir, self.options.file, _REMEDY)
        if not path.exists():
            raise DataError(f"{path}: no such file; {_REMEDY}")
        try:
            roles = json.loads(read_text(path))
        except ValueError as error:
            raise DataError(f"{path}: not JSON ({error}); {_REMEDY}") from error
        if not isinstance(roles, dict) or not all(isinstance(text, str) for text in roles.values()):
            raise DataError(f"{path}: not an object of role: text; {_REMEDY}")
        spoken = {name: text for name, text in roles.items() if len(text) >= self.options.min_characters}
        if not spoken:
            raise DataError(
                f"{path}: no role has spec.task.config.minCharacters ({self.options.min_characters}) characters"
            )
        return spoken

    def _windows(self, texts: list[str]) -> TensorDataset:
        window, stride = self.options.window, self.options.stride
        codes = [_encode(text) for text in texts if len(text) > window]
        if not codes:
            raise DataError(f"spec.task.config.window: no role's text is longer than {window} characters")
        cut = np.concatenate([np.lib.stride_tricks.sliding_window_view(text, window + 1)[::stride] for text in codes])
        return TensorDataset(torch.from_numpy(cut[:, :-1].copy()), torch.from_numpy(cut[:, -1].copy()))


def _cut(text: str) -> tuple[str, str]:
    end = len(text) * 9 // 10
    return text[:end], text[end:]


def _encode(text: str) -> NDArray[np.int64]:
    return np.fromiter((_CODES.get(character, 1) for character in text), np.int64, len(text))
