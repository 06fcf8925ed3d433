"""The small task with its data in shards of different sizes, and trouble on a chosen one.

Ranks that are threads share torch's generator, so nothing here draws from it: no dropout, and weights that are given.
"""

import time

import small_task
import torch
from torch import nn

from muster import Data, Shard


class Shards(small_task.Points):
    def build_model(self):
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Identity(), nn.Linear(8, 2))
        with torch.no_grad():
            for layer in (model[0], model[4]):
                layer.weight.copy_(torch.linspace(-0.5, 0.5, layer.weight.numel()).reshape(layer.weight.shape))
                layer.bias.zero_()
        return model

    def load_shard(self, client, shard: Shard) -> Data:  # noqa: ARG002 -- there is one client
        if self.options.trouble == f"shard {shard.index}":
            raise FileNotFoundError("no such scanner")
        held_out = small_task.points(90 + shard.index, 4 + shard.index)
        return Data(small_task.points(shard.index, 16 + 8 * shard.index), held_out)

    def train(self, model, dataset, training):
        while self.options.trouble == f"waits {len(dataset)}" and not training.should_stop():
            time.sleep(0.001)
        return super().train(model, dataset, training)
