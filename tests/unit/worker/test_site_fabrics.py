"""What fabrics and teams decide by themselves, without other ranks."""

import pytest
import torch

from muster.errors import RankLostError, SiteError
from muster.site.distributed import Place, Steps, place_of
from muster.site.fabric import Threads, break_down, spread
from muster.site.mpi import check_size


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, Place(3, 8, 1)),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}, Place(2, 4, 0)),
        ({"RANK": "0", "WORLD_SIZE": "1", "SLURM_PROCID": "2", "SLURM_NTASKS": "4"}, Place(0, 1, 0)),
    ],
)
def test_a_rank_knows_its_place_from_torchrun_or_srun(environment, place):
    assert place_of(environment) == place


def test_a_rank_without_a_place_says_what_is_missing():
    with pytest.raises(SiteError, match="neither RANK and WORLD_SIZE"):
        place_of({"RANK": "1", "SLURM_NTASKS": "4"})


@pytest.mark.parametrize(("size", "environment"), [(4, {"SLURM_NTASKS": "4"}), (1, {}), (1, {"SLURM_NTASKS": "1"})])
def test_mpi_that_fits_its_launcher(size, environment):
    check_size(size, environment)


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"])
def test_mpi_that_does_not(name):
    with pytest.raises(SiteError, match="4 processes were started, and MPI sees one"):
        check_size(1, {name: "4"})


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9])
def test_parts_of_a_batch_weigh_as_much_as_they_are(count):
    inputs, targets = torch.arange(count * 2.0).reshape(count, 2), torch.arange(count)
    parts = [Steps(rank, 3, None).part((inputs, targets)) for rank in range(3)]
    weighted = sum(part.sum() / len(part) * factor / 3 for (part, _), factor in parts)  # as gradients are averaged
    assert weighted.item() == pytest.approx((inputs.sum() / count).item())
    seen = [target for (_, mine), factor in parts if factor for target in mine.tolist()]
    assert seen == list(range(count))
    assert all(len(mine) for (_, mine), _ in parts)  # every rank takes the step


def test_bytes_of_rank_0_reach_all():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(3) as pool:
        ranks = Threads(3).ranks
        found = [
            each.result(20)
            for each in [pool.submit(spread, rank, b"said" if rank.rank == 0 else b"") for rank in ranks]
        ]
    assert found == [b"said"] * 3


def test_a_transfer_that_fails_is_put_down_to_the_rank_that_is_found_gone_a_moment_later():
    looks = []

    def watch():
        looks.append(1)
        if len(looks) == 3:
            raise RankLostError("rank 1 is gone")

    with pytest.raises(RankLostError, match="rank 1 is gone"):
        break_down("gloo: connection reset", watch)
    assert len(looks) == 3
