"""Something isn't there: memory, an image, room on the disk of the checkpoint."""

from __future__ import annotations

import os

from faults.jobs import RESOURCES, Job, Lab, manifest, pool
from faults.nodes import fill, small_volume
from real_nodes import Object, wait_until


def no_memory(lab: Lab) -> None:
    pools = [pool("near"), _other("greedy")]
    given = manifest("without-greedy", pools, config={"greedy": "greedy"})
    with lab.job("a pool's workers need more memory than they may have", given, until=0) as job:
        _others_go_on(job, "greedy", "OutOfMemory")


def no_image(lab: Lab) -> None:
    pools = [pool("near"), _other("absent", image="localhost:1/absent:1")]
    with lab.job("a pool's image is missing", manifest("without-absent", pools), until=0) as job:
        _others_go_on(job, "absent", "ImagePullFailed")


def _other(name: str, **template: object) -> Object:
    inline = {"type": "Kubernetes", "clients": 1, "template": {"resources": RESOURCES} | template}
    return {"name": name, "inline": inline}


def _others_go_on(job: Job, pool_name: str, reason: str) -> None:
    job.breaks()

    def told() -> str:
        pools = job.team.status(job.name).get("pools", [])
        return str({one["name"]: one.get("reason") for one in pools}.get(pool_name))

    wait_until(lambda: told() == reason, f"the status says {reason}", within_s=90)
    job.ends_well()


def disk_full(lab: Lab) -> None:
    storage = {"type": "Volume", "volume": {"size": "1Mi", "storageClassName": "small"}}
    given = manifest("full", [pool("near")], storage=storage)
    what = "disk of the checkpoint full until the status says so"
    with small_volume(lab.team.nodes) as folder, lab.job(what, given) as job:
        filler = folder / "filler"
        job.breaks()
        fill(filler)
        assert os.statvfs(folder).f_bavail == 0
        wait_until(
            lambda: "No space left" in job.team.status("full").get("message", ""), "the status tells", within_s=90
        )
        filler.unlink()
        job.ends_well()
