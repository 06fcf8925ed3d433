"""Updates that leave something out, over real gRPC with real processes: nothing is lost on the way, and bytes are."""

import os
import re
import subprocess
import sys

import msgspec
import pytest
from safetensors.numpy import load_file

from coordinating import TOKEN, commits_in, coordinator, errors_of, write_job
from muster.task import Client
from muster.workshop import Hooks, Workshop
from muster_coordinator.compression import codecs_of
from muster_coordinator.durable import unseal
from muster_coordinator.histories import Histories
from muster_coordinator.models import read_model
from muster_coordinator.records import RoundPlan
from muster_coordinator.sparsity import after_round, uplink_of
from muster_spec.types import ResolvedJob
from muster_spec.work import work_of
from muster_wire.feedback import Memory, encode, random_of
from proxying import CALM, Direction, Proxy, Weather
from running import TASKS

CLIENTS = 3
ORDINALS = {f"p/{index}": index for index in range(CLIENTS)}
TOP = {"type": "TopK", "topK": {"share": 0.3, "momentum": 0.5, "warmUpRounds": 1}}


def worker(address, folder, index):
    """A process of its own: torch's random numbers are global."""
    command = [sys.executable, "-m", "muster_cli.main", "worker", "--coordinator", address, "--pool", "p"]
    command += ["--indices", str(index), "--state", str(folder / "state")]
    return subprocess.Popen(command, env={**os.environ, "MUSTER_TOKEN": TOKEN}, stderr=subprocess.PIPE, text=True)


def run(folder, way_up_s=0.0, **spec):
    """A job run to its end; its coordinator, with all that it said, and the workers' logs. What workers send is so long
    under way.
    """
    folder.mkdir(exist_ok=True)
    job = write_job(folder, clients=CLIENTS, **spec)
    late = Weather(delay_s=way_up_s)
    with (
        coordinator(folder, job) as running,
        Proxy(running.address, lambda _, way: late if way is Direction.UP else CALM) as proxy,
    ):
        workers = [worker(proxy.address, folder, index) for index in range(CLIENTS)]
        logs = [each.communicate(timeout=120)[1] for each in workers]
        assert [each.returncode for each in workers] == [0] * CLIENTS, logs
        assert running.wait() == 0, errors_of(folder)
    return msgspec.json.decode(job.read_bytes(), type=ResolvedJob), running, logs


def test_residuals_are_those_of_a_replay_though_updates_go_unused(tmp_path):
    job, _, logs = run(
        tmp_path,
        way_up_s=1.0,  # so that the third has sent its update by when the second's comes
        task={"entrypoint": "small:Small", "source": {"type": "Path", "path": {"path": str(TASKS)}}},
        rounds={"total": 8, "deadlineSeconds": 20, "minUpdates": 2},
        local={"epochs": 1, "batchSize": 16, "learningRate": 0.1},
        compression={"up": {"codecs": [TOP, {"type": "Int8"}, {"type": "Lossless"}]}},
        checkpoint={"keep": 20},
    )
    storage = tmp_path / "storage"
    commits = commits_in(storage)[1:]
    assert [len(commit.used) for commit in commits] == [2] * 8  # of three that were asked
    assert re.search("was not (used|taken)", "".join(logs)), "\n".join(logs)
    for index, memory in enumerate(_replay(job, storage, commits)):
        path = next((tmp_path / "state").rglob(f"p-{index}")) / "memory.safetensors"
        kept = load_file(path) if path.exists() else Memory.empty().arrays()
        assert {name: array.tobytes() for name, array in kept.items()} == {
            name: array.tobytes() for name, array in memory.arrays().items()
        }
        assert memory.participations == len(_rounds_of(commits)[f"p/{index}"])


def _rounds_of(commits):
    return {
        f"p/{index}": [c.round for c in commits if f"p/{index}" in {used.client for used in c.used}]
        for index in range(CLIENTS)
    }


def _replay(job, storage, commits):
    """Every client's memory after only those of its updates that were used."""
    shop, recipe = Workshop(work_of(job)), codecs_of(job.spec.compression).up
    for index in range(CLIENTS):
        memory = Memory.empty()
        client = Client("p", index, index, CLIENTS, CLIENTS, job.spec.seed)
        for commit in commits:
            if f"p/{index}" in {used.client for used in commit.used}:
                seed = _plan(storage, commit).cohort[index].seed
                base = read_model(storage / "models" / f"{commit.base}.safetensors").values
                update = shop.train(client, base, {}, seed, Hooks(lambda: False, lambda _: None)).update
                memory = encode(update, recipe, memory, random_of(seed)).memory
        yield memory


def _plan(storage, commit):
    return unseal((storage / "plans" / f"{commit.round:06d}.{commit.attempt}.json").read_bytes(), RoundPlan)


DIGITS = {
    "task": {"entrypoint": "muster.tasks.digits:Digits", "config": {"width": 32}},
    "rounds": {"total": 4, "deadlineSeconds": 60},
    "local": {"epochs": 2, "batchSize": 16, "learningRate": 0.05},
    "evaluation": {"every": 4, "central": {"type": "Auto"}, "federated": False},
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return _outcome(run(tmp_path_factory.mktemp("plain"), **DIGITS)[1])


@pytest.mark.parametrize(
    ("stages", "least", "most"),
    [
        (["Int8"], 3.8, 4.1),
        ([{"type": "TopK", "topK": {"share": 0.05, "warmUpRounds": 0}}, "Int8", "Lossless"], 25, 80),
    ],
)
def test_digits_are_learnt_with_fewer_bytes_up(plain, tmp_path, stages, least, most):
    codecs = [{"type": stage} if isinstance(stage, str) else stage for stage in stages]
    _, running, _ = run(tmp_path, **DIGITS, compression={"up": {"codecs": codecs}})
    bytes_up, accuracy = _outcome(running)
    assert least < plain[0] / bytes_up < most
    assert accuracy > (plain[1] - 0.03 if least < 10 else 0.5)


def _outcome(running):
    """Bytes of updates up, without the first model, and the accuracy in the end."""
    updates = [event["bytesUp"] for event in running.of("committed") if event["round"]]
    return sum(updates), running.of("evaluated")[-1]["central"]["accuracy"]


def job_size(folder):
    """Trainable values of a job's model."""
    model = next((folder / "storage" / "models").glob("*.safetensors"))
    return read_model(model).values.trainable.size


def test_the_share_of_values_is_learnt_from_real_rounds(tmp_path):
    """Each round's share is what the rounds before it lead to, and updates really have that many values."""
    stage = {"type": "AdaptiveTopK", "adaptiveTopK": {"minShare": 0.02, "maxShare": 0.4}}
    job, running, _ = run(tmp_path, **DIGITS, compression={"up": {"codecs": [stage]}})
    search, shares = codecs_of(job.spec.compression).search, []
    first, *commits = commits_in(tmp_path / "storage")
    histories = Histories().after(first, ORDINALS, 1.0)
    for commit in commits:
        assert {each.uplink for each in _plan(tmp_path / "storage", commit).cohort} == {uplink_of(search)}
        assert all(each.losses and each.losses.after != each.losses.before for each in commit.used)
        shares.append(search.share)
        histories = histories.after(commit, ORDINALS, 1.0)
        search = after_round(search, commit, lambda client: histories.surveyed_up(client, ORDINALS))  # noqa: B023
    assert len(set(shares)) > 1
    assert all(0.02 <= share <= 0.4 for share in shares)
    for event in running.of("received"):
        if event["round"]:
            bits = 8 * event["bytes"] / job_size(tmp_path)
            assert bits == pytest.approx(1 + 32 * shares[event["round"] - 1], rel=0.35)  # places, and float32 values
