"""`muster run` where each client's data lies in a folder of its own."""

import json

import yaml

from running import TASKS, muster

POOL = "site"


def write_job(folder, owners):
    """A pool with a folder a client, named relative to the manifest. All of them are served by two processes."""
    places = []
    for index, owner in enumerate(owners):
        (folder / "shares" / str(index)).mkdir(parents=True)
        (folder / "shares" / str(index) / "owner").write_text(owner)
        places.append({"path": f"shares/{index}"})
    source = {"type": "Path", "path": {"path": str(TASKS)}}
    pool = {"type": "Kubernetes", "clients": len(owners), "data": {"perClient": places}}
    spec = {
        "task": {"entrypoint": "placed:Placed", "source": source},
        "pools": [{"name": POOL, "inline": pool}],
        "rounds": {"total": 1, "deadlineSeconds": 30},
    }
    job = {"apiVersion": "muster.dev/v1alpha1", "kind": "FederatedJob", "metadata": {"name": "placed"}, "spec": spec}
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    return folder / "job.yaml"


def test_each_client_reads_its_own_folder(tmp_path):
    job = write_job(tmp_path, [f"{POOL}/{index}" for index in range(18)])  # more clients than worker processes
    done = muster("run", job, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    [committed] = [event for event in events if event["event"] == "committed" and event["round"] == 1]
    assert committed["used"] == 18
    [compared] = [event for event in events if event["event"] == "baselines" and event["phase"] == "finished"]
    assert compared["localOnly"] is not None  # the baselines read them too


def test_a_folder_that_is_not_there_is_named_with_its_client(tmp_path):
    job = write_job(tmp_path, [f"{POOL}/0", f"{POOL}/1"])
    (tmp_path / "shares" / "1" / "owner").unlink()
    (tmp_path / "shares" / "1").rmdir()
    done = muster("run", job, cwd=tmp_path)
    assert done.returncode == 2
    assert "the data of client site/1" in done.stderr
