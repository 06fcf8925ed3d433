"""The job script, and what is asked of the site: every field of spec.slurm has its place."""

import subprocess

import pytest

from muster_slurm.ledger import Submission
from muster_slurm.openapi import submission
from muster_slurm.request import Keys, Tag, build_request, megabytes, write_tasks
from muster_slurm.squeue import submit_program, submit_words
from slurm_pools import UID, everything, slurm_job


def request_of(tmp_path, slurm="{command: {type: Local}}", slots=(0, 1, 2, 3), base=0, **pool):
    job, one = slurm_job(tmp_path, slurm, **pool)
    given = Submission(7, slots, one.spec.workers_wanted, base=base)
    return build_request(job, one, given, {"MUSTER_JOIN": "bundle", "B": "hidden it's"})


def test_every_field_becomes_an_option_of_sbatch(tmp_path):
    assert set(submit_words(request_of(tmp_path, everything()))) == {
        "--parsable",
        f"--job-name=muster-{UID}-hpc-7-4-0",
        f"--comment=muster/{UID}/hpc/7/4/0",
        "--array=0-3",
        "--nodes=1",
        "--ntasks=1",
        "--time=90",
        "--signal=TERM@90",
        "--no-requeue",
        "--open-mode=append",
        "--chdir=/scratch/fl",
        "--output=muster-%A_%a.log",
        "--export=PATH,MUSTER_JOIN,B",
        "--partition=gpu",
        "--account=phys",
        "--qos=long",
        "--constraint=a100&nvme",
        "--reservation=course",
        "--gres=gpu:2",
        "--cpus-per-task=8",
        "--mem=16384M",
    }


def test_every_field_becomes_a_key_of_the_older_api(tmp_path):
    body = submission(request_of(tmp_path, everything()), 38)
    job = body["job"]
    assert body["script"].startswith("#!/bin/bash -l\n")
    assert (job["partition"], job["account"], job["qos"], job["reservation"]) == ("gpu", "phys", "long", "course")
    assert (job["constraint"], job["gres"], job["nodes"], job["tasks"]) == ("a100&nvme", "gpu:2", [1, 1], 1)
    assert (job["cpus_per_task"], job["memory_per_node"], job["time_limit"]) == (8, 16384, 90)
    assert (job["requeue"], job["signal"], job["array"]) == (False, "TERM@90", "0-3")
    assert (job["comment"], job["name"]) == (f"muster/{UID}/hpc/7/4/0", f"muster-{UID}-hpc-7-4-0")
    assert job["environment"] == {"PATH": "/usr/local/bin:/usr/bin:/bin", "MUSTER_JOIN": "bundle", "B": "hidden it's"}


def test_every_field_becomes_a_key_of_the_newer_api(tmp_path):
    job = submission(request_of(tmp_path, everything()), 40)["job"]
    assert "MUSTER_JOIN=bundle" in job["environment"]
    assert job["time_limit"] == {"set": True, "infinite": False, "number": 90}
    assert job["memory_per_node"]["number"] == 16384
    assert (job["constraints"], job["tres_per_node"]) == ("a100&nvme", "gres:gpu:2")
    assert (job["kill_warning_signal"], job["kill_warning_delay"]["number"]) == ("TERM", 90)
    assert (job["minimum_nodes"], job["maximum_nodes"], job["open_mode"]) == (1, 1, ["APPEND"])


def test_what_is_not_asked_for_is_left_to_the_site(tmp_path):
    request = request_of(tmp_path)
    job = submission(request, 38)["job"]
    assert not {"partition", "account", "qos", "constraint", "gres", "memory_per_node", "cpus_per_task"} & job.keys()
    assert not any(word.startswith(("--partition", "--mem", "--gres")) for word in submit_words(request))
    assert "--requeue" in submit_words(request)


def test_secrets_are_in_no_script_and_no_argument(tmp_path):
    request = request_of(tmp_path, everything())
    assert "hidden" not in request.script
    assert "hidden" not in " ".join(submit_words(request))
    assert "hidden" not in repr(request)


def test_the_program_hands_script_and_environment_over(tmp_path):
    """A stand-in for sbatch prints what reaches it."""
    stand_in = tmp_path / "sbatch"
    stand_in.write_text('#!/bin/sh\necho "$B"\ncat\n')
    stand_in.chmod(0o755)
    request = request_of(tmp_path, everything())
    program = f"PATH={tmp_path}:$PATH\n" + submit_program(request)
    result = subprocess.run(["sh"], input=program, capture_output=True, text=True, check=True)
    assert result.stdout == "hidden it's\n" + request.script


def test_a_login_node_without_sbatch_says_so(tmp_path):
    program = "PATH=/nowhere\n" + submit_program(request_of(tmp_path))
    result = subprocess.run(["/bin/sh"], input=program, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (127, "there is no sbatch on the PATH\n")


def test_modules_come_before_the_preamble_and_both_before_the_worker(tmp_path):
    lines = request_of(tmp_path, everything()).script.splitlines()
    order = ["module load cuda/12.4", "module load python/3.11", "source env/bin/activate"]
    assert [line for line in lines if line in order] == order
    assert lines[-1].startswith("exec srun")


def test_without_a_work_dir_logs_go_to_the_users_home(tmp_path):
    request = request_of(tmp_path)
    assert request.script.splitlines()[4:6] == [
        "cd",
        'exec >>"muster-${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}.log" 2>&1',
    ]
    assert (request.options.work_dir, request.options.output) == ("/", "/dev/null")


SRUN = "exec srun --nodes=1 --ntasks=1 --export=ALL"
CONTAINERS = {
    "{runtime: Apptainer, image: /w.sif, mounts: [/d]}": f"{SRUN} apptainer exec --bind /d:/d /w.sif muster worker",
    "{runtime: Enroot, image: w.sqsh, mounts: ['/d:/x']}": (
        f"{SRUN} enroot start --env MUSTER_JOIN --env OMP_NUM_THREADS --mount /d:/x w.sqsh muster worker"
    ),
    "{runtime: Pyxis, image: 'reg#w:1', mounts: [/d, '/e:/f']}": (
        f"{SRUN} --container-image='reg#w:1' --container-mounts=/d:/d,/e:/f muster worker"
    ),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers(tmp_path, container):
    script = request_of(tmp_path, f"{{command: {{type: Local}}, container: {container}}}").script
    assert CONTAINERS[container] in script


RELAY = "relay: {type: SharedFolder, sharedFolder: {path: /shared/relays}}"


def test_a_relay_through_a_folder_is_told_to_workers_and_shown_in_containers(tmp_path):
    bare = request_of(tmp_path, f"{{command: {{type: Local}}, {RELAY}}}")
    assert run_worker_line(bare.script, 0, tmp_path)[-2:] == ["--relay", f"/shared/relays/muster-{UID}-hpc"]
    inside = request_of(
        tmp_path, f"{{command: {{type: Local}}, container: {{runtime: Apptainer, image: /w.sif}}, {RELAY}}}"
    )
    assert "apptainer exec --bind /shared/relays:/shared/relays /w.sif muster worker" in inside.script


def test_apptainer_shows_gpus_where_the_job_has_some(tmp_path):
    container = "{runtime: Apptainer, image: /w.sif}"
    assert (
        "apptainer exec --nv /w.sif"
        in request_of(tmp_path, f"{{command: {{type: Local}}, gres: gpu:1, container: {container}}}").script
    )


def run_worker_line(script, task, folder):
    """What a worker would be called with, for a task of the array."""
    (folder / "srun").write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    (folder / "srun").chmod(0o755)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": str(task), "HOME": str(folder)}
    lines = [line for line in script.splitlines() if not line.startswith(("#!", "cd", "exec >>"))]
    result = subprocess.run(
        ["bash", "-c", "\n".join(lines)], env=environment, capture_output=True, text=True, check=True
    )
    words = result.stdout.split("|")
    return words[words.index("muster") : -1]


def test_a_task_is_a_worker_of_certain_clients(tmp_path):
    request = request_of(tmp_path, slots=(0, 1), clients=5, workers="{clientsPerWorker: 3}")
    assert run_worker_line(request.script, 0, tmp_path) == ["muster", "worker", "--indices", "0,2,4"]
    assert run_worker_line(request.script, 1, tmp_path) == ["muster", "worker", "--indices", "1,3"]


def test_workers_beyond_max_array_size_begin_at_task_0_again(tmp_path):
    request = request_of(tmp_path, slots=(1000, 1003), base=1000, clients=1200)
    assert request.tasks == (0, 3)
    assert run_worker_line(request.script, 3, tmp_path)[3] == "1003"


def test_data_and_state_are_where_the_pool_says(tmp_path):
    pool = {"data": "{path: /data/x y}", "state": "{type: Path, path: {path: /keep}}"}
    words = run_worker_line(request_of(tmp_path, **pool).script, 2, tmp_path)
    assert words[2:] == ["--indices", "2", "--data", "/data/x y", "--state", "/keep"]


def test_each_client_may_have_its_own_data(tmp_path):
    data = "{path: /shared, perClient: [{path: /a}, {path: '/b c'}, {}]}"
    script = request_of(tmp_path, slots=(0, 1, 2), clients=3, data=data).script
    assert [run_worker_line(script, task, tmp_path)[-1] for task in range(3)] == ["/a", "/b c", "/shared"]


def test_memory_is_megabytes():
    assert [megabytes(text) for text in ("500", "500M", "1G", "2T", "100K")] == [500, 500, 1024, 2 * 1024 * 1024, 1]


def test_tasks_are_written_as_slurm_writes_them():
    assert write_tasks([3, 0, 1, 2, 7, 9, 10]) == "0-3,7,9-10"


def test_keys_tell_ours_from_others():
    keys = Keys("u1", "hpc")
    assert keys.read("anything", keys.comment(Tag(12, 4, 1000))) == Tag(12, 4, 1000)
    assert keys.read(keys.name(Tag(3, 4, 0)), "a plugin wrote this") == Tag(3, 4, 0)
    assert keys.read("muster-u1-hpc2-3-4-0", "muster/u1/hpc2/3/4/0") is None
    assert keys.read("muster-u1-hpc-", "muster/u1/hpc/x/4/0") is None
