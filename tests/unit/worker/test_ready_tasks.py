"""The ready tasks on small made-up files, and on the real data where it is."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from small_task import client, local
from torch.utils.data import TensorDataset

from muster.errors import ConfigError, DataError
from muster.evaluation import evaluate
from muster.tasks.cifar10 import Cifar10
from muster.tasks.digits import Digits
from muster.tasks.heart import FEATURES, HOSPITALS, Heart, read_hospital
from muster.tasks.medmnist import MedMnist
from muster.tasks.shakespeare import ALPHABET, Shakespeare
from muster.training import Training, train

CPU = torch.device("cpu")
SHARED = Path(os.environ.get("MUSTER_DATA", Path(__file__).parents[4] / "shared" / "data"))


def real(name):
    """A path of the real data; skips where it isn't."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"the real data is not here: {name} in MUSTER_DATA (default ../shared/data)")
    return path


def learns(task, who, epochs=1, rate=0.05, limit=None):
    """Train a little, and give the loss on the training data before and after."""
    torch.manual_seed(0)
    model, data = task.build_model(), task.load_data(who).train
    before = evaluate(task, model, data, CPU).metrics["loss"]
    job = local(epochs=epochs, batch_size=16, learning_rate=rate, max_steps=limit)
    train(task, model, data, Training(local=job, seed=0, device=CPU, clock=lambda: 0.0))
    return before, evaluate(task, model, data, CPU).metrics["loss"]


# --- digits -----------------------------------------------------------------------------------------------------------


def test_digits_are_shared_out_whole_and_by_label():
    task, clients = Digits({"classesPerClient": 3}), [client(i, 10) for i in range(10)]
    data = [task.load_data(who) for who in clients]
    sizes = [len(each.train) + len(each.validation) for each in data]
    assert sum(sizes) + len(task.load_test_data(clients[0])) == 1797
    assert min(sizes) > 100
    assert all(len(each.train.tensors[1].unique()) <= 3 for each in data)


def test_the_digits_test_set_has_as_many_of_each_and_follows_no_seed():
    task = Digits({})
    counts = torch.bincount(task.load_test_data(client()).tensors[1])
    assert counts.min() >= 35
    assert counts.max() <= 37
    other = task.load_test_data(client(seed=99))
    assert torch.equal(other.tensors[0], task.load_test_data(client()).tensors[0])


def test_digits_learn():
    before, after = learns(Digits({"width": 4}), client(0, 4), epochs=6, rate=0.2)
    assert after < 0.8 * before


def test_digits_partition_follows_the_seed():
    first, again, other = (Digits({}).load_data(client(seed=seed)).train.tensors[1] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_accuracy_on_each_class_is_measured_where_it_is_wanted():
    torch.manual_seed(0)
    task = Digits({"perClass": True})
    model, dataset = task.build_model(), task.load_test_data(client())
    found = task.evaluate(model, dataset, CPU).metrics  # 360 images: two batches
    images, labels = dataset.tensors
    with torch.no_grad():
        right = model(images).argmax(dim=1) == labels
    for label in range(10):
        assert found.pop(f"accuracy/{label}") == pytest.approx(right[labels == label].float().mean().item())
    assert found == pytest.approx(Digits({}).evaluate(model, dataset, CPU).metrics)


def test_a_class_that_nothing_is_of_has_no_accuracy():
    task = Cifar10({"perClass": True})
    pixels, labels = torch.zeros(4, 3, 32, 32), torch.tensor([1, 1, 7, 7])
    found = task.evaluate(task.build_model(), TensorDataset(pixels, labels), CPU)
    assert found.examples == 4
    assert {name for name in found.metrics if "/" in name} == {"accuracy/1", "accuracy/7"}
    assert found.metrics["accuracy"] == pytest.approx((found.metrics["accuracy/1"] + found.metrics["accuracy/7"]) / 2)


def test_digits_may_reserve_classes():
    reserved = {"classes": [0, 9], "clients": [4, 5]}
    task = Digits({"partition": {"type": "labels", "classesPerClient": 4, "reserved": reserved}})
    held = [set(task.load_data(client(i, 6)).train.tensors[1].tolist()) for i in range(6)]
    assert [bool(classes & {0, 9}) for classes in held] == [False] * 4 + [True] * 2


def test_digits_say_what_is_wrong_with_their_options():
    with pytest.raises(
        ConfigError, match=r"spec\.task\.config\.classesPerClients: unknown; did you mean classesPerClient"
    ):
        Digits({"classesPerClients": 3})
    with pytest.raises(ConfigError, match=r"spec\.task\.config\.partition"):
        Digits({"partition": {"type": "labels"}})


# --- heart ------------------------------------------------------------------------------------------------------------

ROW = "63,1,4,140,260,0,1,112,1,3,2,?,?,{label}\n"


@pytest.fixture
def hospitals(tmp_path):
    for name in HOSPITALS:
        rows = "".join(ROW.format(label=number % 5) for number in range(30))
        (tmp_path / f"processed.{name}.data").write_text(rows + "1,?,4,140,260,0,1,112,1,3,2,?,?,0\n")
    return tmp_path


def test_heart_reads_complete_rows(hospitals):
    features, labels = read_hospital(hospitals / "processed.va.data")
    assert features.shape == (30, FEATURES) == (30, 13)
    assert labels.tolist() == [0, 1, 1, 1, 1] * 6
    assert features[0, 8:].tolist() == [0, 0, 1, 1, 0]  # pain 4, ECG 1
    assert features[0, 0] == 1.0  # 63 years: one deviation above 54


def test_heart_splits_each_hospital(hospitals):
    task = Heart({})
    data = task.load_data(client(2, data_dir=hospitals))
    assert (len(data.train), len(data.validation)) == (20, 10)
    assert len(task.load_test_data(client(data_dir=hospitals))) == 40


def test_heart_split_follows_its_seed(hospitals):
    def labels(seed, config=None):
        return Heart(config or {}).load_data(client(seed=seed, data_dir=hospitals)).train.tensors[1].tolist()

    assert labels(1) != labels(2)
    assert labels(1, {"splitSeed": 5}) == labels(2, {"splitSeed": 5})


def test_a_real_hospital_has_only_its_own_file(hospitals):
    (hospitals / "processed.va.data").unlink()
    assert Heart({}).load_test_data(client(data_dir=hospitals)) is None
    assert len(Heart({}).load_data(client(0, data_dir=hospitals)).train) == 20


def test_heart_has_four_hospitals(hospitals):
    with pytest.raises(ConfigError, match="4 hospitals, one a client; 5 asked"):
        Heart({}).load_data(client(0, total=5, data_dir=hospitals))


def test_heart_on_the_real_data():
    folder = real("heart")
    rows = [len(read_hospital(folder / f"processed.{name}.data")[1]) for name in HOSPITALS]
    assert rows == [303, 261, 46, 130]
    task = Heart({})
    before, after = learns(task, client(0, data_dir=folder), epochs=20, rate=0.02)
    assert after < before


# --- CIFAR-10 ---------------------------------------------------------------------------------------------------------


def write_cifar(folder, records=40):
    folder.mkdir()
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        data = np.random.default_rng(0).integers(0, 256, (records, 3073), dtype=np.uint8)
        data[:, 0] = np.arange(records) % 10
        data[:, 1:1025] = data[:, :1] * 25  # the red plane says what it is
        data.tofile(folder / name)


def test_cifar10(tmp_path):
    write_cifar(tmp_path / "cifar-10-batches-bin")
    task = Cifar10({"partition": {"type": "dirichlet", "alpha": 10.0, "minSize": 5}, "heldOut": 0.2})
    data = task.load_data(client(data_dir=tmp_path))
    assert data.train.tensors[0].shape[1:] == (3, 32, 32)
    red = data.train.tensors[0][0, 0, 0, 0].item() * 0.2470 + 0.4914
    assert red * 255 / 25 == pytest.approx(data.train.tensors[1][0].item(), abs=1e-3)
    assert len(task.load_test_data(client(data_dir=tmp_path))) == 40
    before, after = learns(task, client(data_dir=tmp_path), epochs=4)
    assert after < before


def test_cifar10_may_be_wider():
    sizes = [sum(part.numel() for part in Cifar10({"width": width}).build_model().parameters()) for width in (1, 2.1)]
    assert sizes == [62_006, 272_822]
    with pytest.raises(ConfigError, match="width"):
        Cifar10({"width": 0})


def test_cifar10_takes_fewer_examples(tmp_path):
    write_cifar(tmp_path / "cifar-10-batches-bin")
    data = Cifar10({"trainExamples": 100, "heldOut": 0.0}).load_data(client(data_dir=tmp_path))
    assert (len(data.train), data.validation) == (25, None)


# --- MedMNIST ---------------------------------------------------------------------------------------------------------


def write_medmnist(path, channels=1, labels_shape=(60, 1)):
    rng, labels = np.random.default_rng(0), np.arange(60) % 2
    shape = (60, 28, 28) if channels == 1 else (60, 28, 28, channels)
    images = (rng.integers(0, 100, shape) + 100 * labels.reshape(-1, *[1] * (len(shape) - 1))).astype(np.uint8)
    arrays = {
        f"{part}_{what}": value
        for part in ("train", "val", "test")
        for what, value in (("images", images), ("labels", labels.reshape(labels_shape).astype(np.uint8)))
    }
    np.savez(path, **arrays)


@pytest.mark.parametrize(("channels", "labels_shape"), [(1, (60, 1)), (3, (60,))])
def test_medmnist(tmp_path, channels, labels_shape):
    write_medmnist(tmp_path / "x.npz", channels, labels_shape)
    task = MedMnist({"file": "x.npz", "channels": channels})
    before, after = learns(task, client(data_dir=tmp_path), epochs=8)
    assert after < before
    assert len(task.load_test_data(client(data_dir=tmp_path))) == 60


@pytest.mark.parametrize("name", ["breastmnist.npz", "pneumoniamnist_reconstructed.npz"])
def test_medmnist_on_the_real_data(name):
    folder = real(f"med/{name}").parent
    before, after = learns(MedMnist({"file": name}), client(data_dir=folder), limit=12)
    assert after < before


# --- Shakespeare ------------------------------------------------------------------------------------------------------


def test_shakespeare_gives_each_client_its_own_roles(tmp_path):
    roles = {f"play/{name}": (name.lower() + " ") * 200 for name in "ABCDEF"} | {"play/Short": "Ay."}
    (tmp_path / "roles.json").write_text(json.dumps(roles))
    task = Shakespeare({"file": "roles.json", "window": 10, "minCharacters": 100, "hidden": 8})
    letters = []
    for ordinal in range(3):
        data = task.load_data(client(ordinal, 3, data_dir=tmp_path))
        letters.append({ALPHABET[code] for code in data.train.tensors[0].unique()} - {" "})
        assert data.train.tensors[0].shape == (70, 10)
    assert sorted("".join(sorted(each)) for each in letters) == sorted("".join(sorted(each)) for each in letters)
    assert set.union(*letters) == set("abcdef")
    assert sum(map(len, letters)) == 6
    before, after = learns(task, client(0, 3, data_dir=tmp_path), epochs=3, rate=0.5)
    assert after < before


def test_the_target_is_the_next_character(tmp_path):
    (tmp_path / "roles.json").write_text(json.dumps({"a/b": "abcdefghijklmnopqrstuvwxyz" * 20}))
    data = Shakespeare({"file": "roles.json", "window": 3, "stride": 1, "minCharacters": 1}).load_data(
        client(0, 1, data_dir=tmp_path)
    )
    text = ["".join(ALPHABET[code] for code in window) for window in data.train.tensors[0][:2]]
    assert text == ["abc", "bcd"]
    assert [ALPHABET[code] for code in data.train.tensors[1][:2]] == ["d", "e"]


def test_shakespeare_on_the_real_data():
    folder = real("shakespeare_roles.json").parent
    task = Shakespeare({"hidden": 16})
    data = task.load_data(client(0, 100, data_dir=folder))
    assert len(data.train) > 800
    assert len(data.validation) > 50


# --- what can't be read -----------------------------------------------------------------------------------------------

READERS = [
    (Heart, {}, "processed.cleveland.data"),
    (Cifar10, {}, "cifar-10-batches-bin/data_batch_1.bin"),
    (MedMnist, {"file": "x.npz"}, "x.npz"),
    (Shakespeare, {}, "shakespeare_roles.json"),
]


@pytest.mark.parametrize(("kind", "config"), [reader[:2] for reader in READERS])
def test_no_data_directory_is_said(kind, config):
    with pytest.raises(DataError, match="--data"):
        kind(config).load_data(client())
    with pytest.raises(DataError, match="/nowhere/at/all: no such data directory; give "):
        kind(config).load_data(client(data_dir=Path("/nowhere/at/all")))


@pytest.mark.parametrize(("kind", "config", "name"), READERS)
def test_a_missing_file_is_said(kind, config, name, tmp_path):
    with pytest.raises(DataError, match=name):
        kind(config).load_data(client(data_dir=tmp_path))


@pytest.mark.parametrize("content", [b"", b"\x80nonsense\n", b"a,b\n", b"[1, 2]"])
@pytest.mark.parametrize(("kind", "config", "name"), READERS)
def test_a_file_of_another_kind_is_said(kind, config, name, content, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        kind(config).load_data(client(data_dir=tmp_path))


def test_medmnist_says_what_to_change(tmp_path):
    write_medmnist(tmp_path / "x.npz", channels=3)
    with pytest.raises(DataError, match="channels: 1"):
        MedMnist({"file": "x.npz"}).load_data(client(data_dir=tmp_path))
    with pytest.raises(DataError, match=r"spec\.task\.config\.classes to 2"):
        MedMnist({"file": "x.npz", "channels": 3, "classes": 1}).load_data(client(data_dir=tmp_path))
