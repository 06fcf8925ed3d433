"""`muster fetch-model` against a cluster that is a folder: what runs in its reader runs here, cut when it sends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from muster_cli.errors import BadInput, CommandError
from muster_cli.fetch_model import fetch
from muster_cli.reader import build_reader
from muster_operator.build.coordinator import CHECKPOINT_FOLDER

MODEL = bytes(range(256)) * 40
READY = {"conditions": [{"type": "Ready", "status": "True"}]}


def job(place="pvc/digits-checkpoint", **status):
    return {
        "metadata": {"name": "digits", "uid": "u1"},
        "status": {"coordinator": {"checkpointLocation": place}} | status,
    }


def coordinator(**pod):
    containers = [{"name": "coordinator", "image": "muster-operator:1"}]
    return {"spec": {"template": {"spec": {"containers": containers} | pod}}}


class Folder:
    """A cluster with one job. What is streamed is cut after so many bytes."""

    def __init__(self, root: Path, *, cut: int = 1 << 20, spoil: bool = False, pod_status=None, **status):
        self.root, self.cut, self.spoil = root, cut, spoil
        self.pod_status = READY if pod_status is None else pod_status
        self.job = job(**status)
        self.readers = []
        self.made = None

    def tell(self, *arguments, manifest=None):
        match arguments:
            case ("get", "fedjob/digits", *_):
                return json.dumps(self.job)
            case ("get", "job/digits-coordinator", *_):
                return json.dumps(coordinator())
            case ("get", "pods", "-l", _, *_):
                return json.dumps({"items": [{"metadata": {"name": "pod"}, "status": self.pod_status}]})
            case ("create", *_):
                self.made = manifest
                self.readers.append("reader-1")
                return json.dumps({"metadata": {"name": "reader-1"}})
            case ("delete", name, *_):
                self.readers.remove(name.removeprefix("job/"))
                return ""
            case ("exec", *_, path):
                return self.run(arguments[-2], self.inside(path)).decode()
        raise AssertionError(arguments)

    def stream(self, *arguments):
        *_, script, path, offset = arguments
        sent = self.run(script, self.inside(path), offset)[: self.cut]
        yield bytes(len(sent)) if self.spoil else sent

    def inside(self, path):
        return path.replace(CHECKPOINT_FOLDER, str(self.root))

    def run(self, script, *arguments):
        return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, check=True).stdout


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "checkpoint" / "u1"
    folder.mkdir(parents=True)
    (folder / "final.safetensors").write_bytes(MODEL)
    return folder.parent


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_a_model_comes_whole_over_connections_that_are_cut(root, tmp_path):
    cluster = Folder(root, cut=3000)
    wanted = fetch(cluster, "digits", "final", tmp_path / "model.safetensors", 5)
    assert (tmp_path / "model.safetensors").read_bytes() == MODEL
    assert wanted.size == len(MODEL)
    assert cluster.readers == []


def test_a_model_comes_from_an_object_store_as_well(root, tmp_path):
    cluster = Folder(root, cut=3000, place=f"file://{root}/u1")
    fetch(cluster, "digits", "final", tmp_path / "model.safetensors", 5)
    assert (tmp_path / "model.safetensors").read_bytes() == MODEL
    with pytest.raises(CommandError, match="no best model"):
        fetch(cluster, "digits", "best", tmp_path / "other.safetensors", 5)


def test_the_reader_of_an_object_store_has_its_credentials_and_no_volume():
    credentials = [{"secretRef": {"name": "store-keys"}}]
    told = coordinator()
    told["spec"]["template"]["spec"]["containers"][0]["envFrom"] = credentials
    pod = build_reader(job("s3://bucket/u1"), told)["spec"]["template"]["spec"]
    assert pod["containers"][0]["envFrom"] == credentials
    assert [each["name"] for each in pod["volumes"]] == ["tmp"]


def test_bytes_that_are_not_the_stored_ones_are_refused(root, tmp_path):
    cluster = Folder(root, spoil=True)
    with pytest.raises(CommandError, match="not those that are stored"):
        fetch(cluster, "digits", "final", tmp_path / "model.safetensors", 5)
    assert names(tmp_path) == []
    assert cluster.readers == []


def test_connections_that_bring_nothing_are_given_up(root, tmp_path):
    with pytest.raises(CommandError, match=f"only 0 of {len(MODEL)} bytes came"):
        fetch(Folder(root, cut=0), "digits", "final", tmp_path / "model.safetensors", 5)


def test_a_job_without_a_final_model_says_how_far_it_is(root, tmp_path):
    (root / "u1" / "final.safetensors").unlink()
    with pytest.raises(CommandError, match=r"fedjob digits \(Running\) has no final model"):
        fetch(Folder(root, phase="Running"), "digits", "final", tmp_path / "model.safetensors", 5)


def test_no_evaluation_no_best_model(root, tmp_path):
    with pytest.raises(CommandError, match="no best model: no evaluation"):
        fetch(Folder(root, phase="Complete"), "digits", "best", tmp_path / "model.safetensors", 5)


def test_a_job_that_was_never_started_has_no_checkpoint(root, tmp_path):
    with pytest.raises(BadInput, match="it hasn't been started"):
        fetch(Folder(root, place=""), "digits", "final", tmp_path / "model.safetensors", 5)


def test_a_reader_that_cannot_start_says_why_and_is_removed(root, tmp_path):
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    cluster = Folder(root, pod_status={"containerStatuses": [waiting]})
    with pytest.raises(CommandError, match="pod pod: no such image"):
        fetch(cluster, "digits", "final", tmp_path / "model.safetensors", 0.1)
    assert cluster.readers == []


def test_a_folder_that_is_not_there_is_named_before_anything_is_made(root, tmp_path):
    cluster = Folder(root)
    with pytest.raises(BadInput, match="there is no folder"):
        fetch(cluster, "digits", "final", tmp_path / "away" / "model.safetensors", 5)
    assert cluster.made is None


def test_the_reader_is_as_its_coordinator_and_may_write_nothing():
    secrets = [{"name": "registry"}]
    made = build_reader(
        job(), coordinator(nodeSelector={"disk": "ssd"}, imagePullSecrets=secrets, priorityClassName="p")
    )
    pod = made["spec"]["template"]["spec"]
    [only] = pod["containers"]
    assert (pod["nodeSelector"], pod["imagePullSecrets"]) == ({"disk": "ssd"}, secrets)
    assert pod["tolerations"] == [{"operator": "Exists"}]  # its node may have been kept for others since
    assert only["image"] == "muster-operator:1"
    assert pod["volumes"][-1]["persistentVolumeClaim"] == {"claimName": "digits-checkpoint", "readOnly": True}
    assert only["volumeMounts"][-1]["readOnly"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert {"activeDeadlineSeconds", "ttlSecondsAfterFinished"} <= made["spec"].keys()
