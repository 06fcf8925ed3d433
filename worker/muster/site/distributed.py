"""The fabric over torch.distributed, and the team that averages gradients at each step.

Ranks find one another as torch's own launcher has it (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), or by SLURM's
variables for the first two. What ranks say to one another goes over gloo; gradients over NCCL where each rank has a GPU
of its own, else over gloo. Errands and steps have groups of their own, so that a rank which leaves its steps early
doesn't answer a question of the others' steps with something else.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from muster.errors import RankLostError, SiteError
from muster.site.fabric import Array, Doubles, Integers, Watch, break_down, unwatched, wait_until
from muster.team import Batch

_MEET_WITHIN: Final = timedelta(seconds=300)  # nodes of one job don't start at once
_FOR_EVER: Final = timedelta(days=30)  # the roll call knows better who is gone than a time limit


@dataclass(frozen=True, slots=True)
class Place:
    """Which of how many ranks this process is, and which on its node."""

    rank: int
    size: int
    local_rank: int


def place_of(environment: Mapping[str, str]) -> Place:
    """As torchrun says it, or srun. SiteError where nobody does."""
    for names in (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")):
        found = [environment.get(name, "") for name in names]
        if all(value.isdecimal() for value in found[:2]):
            return Place(int(found[0]), int(found[1]), int(found[2]) if found[2].isdecimal() else 0)
    raise SiteError("--ranks distributed: neither RANK and WORLD_SIZE are set nor SLURM_PROCID and SLURM_NTASKS")


class TorchFabric:
    """All ranks of this process group."""

    def __init__(self) -> None:
        """Raises SiteError where the ranks don't find one another."""
        place = place_of(os.environ)
        self.rank, self.size, self.local_rank = place.rank, place.size, place.local_rank
        self.watch: Watch = unwatched
        for name in ("MASTER_ADDR", "MASTER_PORT"):
            if not os.environ.get(name):
                raise SiteError(f"--ranks distributed: {name} is not set; torchrun sets it, and scripts for srun do")
        try:
            dist.init_process_group("gloo", rank=self.rank, world_size=self.size, timeout=_MEET_WITHIN)
            self._group: Any = dist.new_group(backend="gloo", timeout=_FOR_EVER)
            self.team = Steps(self.rank, self.size, dist.new_group(backend="gloo", timeout=_FOR_EVER))
        except (RuntimeError, ValueError) as error:
            raise RankLostError(f"torch.distributed: the ranks don't find one another: {error}") from error

    def broadcast(self, buffer: Array) -> None:
        tensor = torch.from_numpy(buffer.copy() if self.rank == 0 else buffer)
        self._wait(dist.broadcast(tensor, src=0, group=self._group, async_op=True))

    def exchange(self, data: bytes) -> list[bytes]:
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        self._wait(dist.all_gather(sizes, torch.tensor([len(data)]), group=self._group, async_op=True))
        longest = max(int(size) for size in sizes)
        mine = torch.zeros(longest, dtype=torch.uint8)
        mine[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else mine[:0]
        found = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.size)]
        if longest:
            self._wait(dist.all_gather(found, mine, group=self._group, async_op=True))
        return [each[: int(size)].numpy().tobytes() for each, size in zip(found, sizes, strict=True)]

    def add(self, buffer: Doubles) -> None:
        self._reduce(buffer, dist.ReduceOp.SUM)

    def maximise(self, buffer: Integers) -> None:
        self._reduce(buffer, dist.ReduceOp.MAX)

    def leave(self) -> None:
        self._wait(dist.barrier(group=self._group, async_op=True))
        dist.destroy_process_group()

    def abort(self, code: int) -> None:
        """There is nobody to ask for that: the others notice by their roll call."""

    def _reduce(self, buffer: Array, operation: Any) -> None:
        self._wait(dist.reduce(torch.from_numpy(buffer), dst=0, op=operation, group=self._group, async_op=True))

    def _wait(self, work: Any) -> None:
        try:
            wait_until(work.is_completed, self.watch)
            work.wait()
        except RuntimeError as error:
            break_down(f"torch.distributed: {error}", self.watch)


class Steps:
    """The team of all ranks: each takes a part of every batch, and their gradients are averaged."""

    def __init__(self, rank: int, size: int, group: Any) -> None:
        self.rank, self._size = rank, size
        self._group = group
        self._gradients: Any = None

    def wrap(self, model: nn.Module) -> nn.Module:
        device = next(model.parameters()).device
        gradients = self._gradients_of(device)
        if device.type != "cuda":
            return DistributedDataParallel(model, process_group=gradients, find_unused_parameters=True)
        if gradients is not self._group:  # batch norm over the whole batch, which only NCCL can
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model, gradients)  # type: ignore[no-untyped-call]
        return DistributedDataParallel(
            model, device_ids=[device.index], process_group=gradients, find_unused_parameters=True
        )

    def part(self, batch: Batch) -> tuple[Batch, float]:
        """Every rank's turn in order. One that gets none takes an example without weight: all have to take the step."""
        inputs, targets = batch
        count = len(targets)
        mine = slice(self.rank * count // self._size, (self.rank + 1) * count // self._size)
        size = mine.stop - mine.start
        mine = mine if size else slice(0, 1)
        return (inputs[mine], targets[mine]), size * self._size / count

    def agree(self, *, may: bool) -> bool:
        answer = torch.tensor([may], dtype=torch.uint8)
        dist.broadcast(answer, src=0, group=self._group)
        return bool(answer)

    def mean(self, value: Tensor) -> Tensor:
        total = value.detach().to("cpu", torch.float64, copy=True)
        dist.all_reduce(total, group=self._group)
        return total / self._size

    def _gradients_of(self, device: torch.device) -> Any:
        """The group that carries gradients: made once, by all ranks at once."""
        if self._gradients is None:
            self._gradients = dist.new_group(backend="nccl") if self._has_own_gpus(device) else self._group
        return self._gradients

    def _has_own_gpus(self, device: torch.device) -> bool:
        """Whether every rank has a GPU that no other rank has: NCCL wants that."""
        mine = bytes(16)
        if device.type == "cuda":
            mine = hashlib.blake2b(str(torch.cuda.get_device_properties(device).uuid).encode(), digest_size=16).digest()
        names = [torch.zeros(16, dtype=torch.uint8) for _ in range(self._size)]
        dist.all_gather(names, torch.tensor(list(mine), dtype=torch.uint8), group=self._group)
        known = {bytes(name.tolist()) for name in names}
        return bytes(16) not in known and len(known) == self._size and dist.is_nccl_available()
