"""Your own model: a class with three methods. Here clients learn to tell wines apart (scikit-learn's bundled data)."""

import torch
from sklearn.datasets import load_wine
from torch.utils.data import TensorDataset

from muster import Client, Data, Task


def wines() -> tuple[torch.Tensor, torch.Tensor]:
    """Thirteen measurements of each wine, scaled, and its kind."""
    data = load_wine()
    inputs = torch.tensor(data.data, dtype=torch.float32)
    return (inputs - inputs.mean(0)) / inputs.std(0), torch.tensor(data.target)


class Wine(Task):
    """Three kinds of wine."""

    def build_model(self) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(13, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))

    def load_data(self, client: Client) -> Data:
        inputs, kinds = wines()
        mine = torch.arange(len(kinds)) % (client.clients_total + 1) == client.ordinal  # one share is the test set
        return Data(TensorDataset(inputs[mine], kinds[mine]))

    def load_test_data(self, client: Client) -> TensorDataset:
        inputs, kinds = wines()
        test = torch.arange(len(kinds)) % (client.clients_total + 1) == client.clients_total
        return TensorDataset(inputs[test], kinds[test])
