"""What ranks have of their own: seeds, and a client's private tensors, which lie in one state, each under its shard."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from torch import Tensor

from muster.task import Shard

State = Mapping[str, Tensor]


def rank_seed(seed: int, rank: int) -> int:
    """63 bits of each rank's own; rank 0's are the client's."""
    if rank == 0:
        return seed
    digest = hashlib.blake2b(f"{seed}/{rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def own_state(state: State, shard: Shard) -> dict[str, Tensor]:
    """One shard's of a client's state; nothing, if as many shards left none."""
    prefix = _prefix(shard)
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def all_states(states: Sequence[State]) -> dict[str, Tensor]:
    """Those of all shards as one."""
    shards = [Shard(index, len(states)) for index in range(len(states))]
    return {
        _prefix(shard) + name: tensor
        for shard, state in zip(shards, states, strict=True)
        for name, tensor in state.items()
    }


def _prefix(shard: Shard) -> str:
    return f"{shard.index}/{shard.count}/"
