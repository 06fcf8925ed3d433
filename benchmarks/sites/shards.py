"""Digits whose data lies in shards: a client each, or one client's with a rank each, trained on in the same batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from muster import Client, Data, Shard
from muster.batches import size_of
from muster.tasks.digits import Digits
from muster.training import Trained, Training


class Shards(Digits):
    """A shard is what the partition gives to a client of its number, so shards differ in size and in their classes."""

    def load_shard(self, client: Client, shard: Shard) -> Data:
        return self.load_data(replace(client, ordinal=shard.index, clients_total=shard.count))

    def train(self, model: nn.Module, dataset: Dataset[Any], training: Training) -> Trained:
        """An order's seed goes by client; by shard, one client's ranks draw what many clients would."""
        return super().train(model, dataset, replace(training, seed=size_of(dataset)))
