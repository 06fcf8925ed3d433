"""scripts/slurm: what it brings up it takes down without a trace, jobs and their processes too."""

import os

import psutil

from slurming import SCRIPT, Slurm, environment_of, run_script


def test_nothing_is_left_of_a_slurm_with_jobs_in_it(slurm, tmp_path):  # which says whether this machine has one at all
    assert slurm.queue() == ""
    name = f"trace-{os.getpid()}"
    release = ("--release", os.environ["MUSTER_SLURM_RELEASE"]) if "MUSTER_SLURM_RELEASE" in os.environ else ()
    try:
        assert run_script("--name", name, *release, "up", "--owner", str(os.getpid())).returncode == 0
        assert run_script("--name", name, "status").returncode == 0
        own = Slurm(name, environment_of(name))
        if release:
            own.use_commands_of_its_own(tmp_path)
        job = own.tell("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "trap '' TERM; sleep 61")
        own.until(lambda: own.jobs("running"))
        assert job
        mark = str(own.folder)
        assert processes_with(mark)
    finally:
        assert run_script("--name", name, "down").returncode == 0
    assert processes_with(mark) == []
    assert not own.folder.exists()
    assert run_script("--name", name, "status").returncode == 1


def processes_with(mark):
    found = []
    for process in psutil.process_iter():
        try:
            if mark in process.environ().get("SLURM_CONF", "") and process.pid != os.getpid():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def test_its_commands_are_listed():
    assert "packages" in run_script("--help").stdout
    assert os.access(SCRIPT, os.X_OK)
