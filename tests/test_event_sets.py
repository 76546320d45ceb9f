"""Event data sets in every layout, packs, options, and real recordings where there are any."""

import os
from pathlib import Path

import numpy as np
import pytest

from sim.samples import event_files as write
from sw.data import datasets
from sw.data.cifar import CIFAR10_LABELS
from sw.errors import SpikeTicketError

SENSOR = (34, 34)


def save_npy(path: Path, array: np.ndarray) -> None:
    np.save(path, array, allow_pickle=False)


def lay(folder: Path, classes: list[str], suffix: str, each: int = 2, first: int = 0,
        sensor=SENSOR) -> None:
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            e = write.sample(30, sensor, place * 100 + i)
            path = folder / name / f"{name}_{i + first}{suffix}"
            if suffix == ".bin":
                path.write_bytes(write.atis_bin(e))
            elif suffix == ".npz":
                np.savez(path, **e)
            elif suffix == ".aedat":
                path.write_bytes(write.aedat2(e))
            else:
                path.write_bytes(write.aedat4(e, sensor))


DIGITS = [str(i) for i in range(10)]


@pytest.mark.parametrize("folder, suffix", [
    ("NMNIST/Test", ".bin"), ("Test", ".bin"), ("extract/Test", ".bin"),
    ("events_np/test", ".npz")])
def test_n_mnist_layouts(tmp_path, folder, suffix):
    lay(tmp_path / folder, DIGITS, suffix)
    data = datasets.load("n-mnist", "test", tmp_path, timesteps=3, size=32)
    assert data.images.shape == (20, 3, 2, 32, 32) and not data.static
    assert np.bincount(data.labels).tolist() == [2] * 10
    again = datasets.load("n-mnist", "test", tmp_path, timesteps=3, size=32)
    assert np.array_equal(data.images, again.images)
    few = datasets.load("n-mnist", "test", tmp_path, limit=10)
    assert sorted(few.labels.tolist()) == list(range(10))
    with pytest.raises(SpikeTicketError, match=r"train split; expected one of NMNIST/Train.*"
                                               r"nmnist_train\*\.npz.*unpack"):
        datasets.load("n-mnist", "train", tmp_path)


@pytest.mark.parametrize("folder, suffix", [
    ("CIFAR10DVS", ".aedat4"), ("events_np", ".npz"), ("extract", ".aedat"), (".", ".aedat")])
def test_cifar10_dvs_layouts_and_split(tmp_path, folder, suffix):
    names = list(CIFAR10_LABELS)
    lay(tmp_path / folder, names, suffix, each=2, first=99, sensor=(128, 128))
    train, test = (datasets.load("cifar10-dvs", split, tmp_path, size=16, fit="resize")
                   for split in ("train", "test"))
    assert train.labels.tolist() == test.labels.tolist() == list(range(10))
    assert test.images.sum() == train.images.sum() == 300
    assert test.names[3] == "cat" and not np.array_equal(test.images, train.images)


def test_gesture_as_published(tmp_path):
    base = tmp_path / "DvsGesture"
    base.mkdir()
    e = write.sample(200, (128, 128))
    (base / "user01_led.aedat").write_bytes(write.aedat3(e))
    (base / "user01_led_labels.csv").write_text(
        "class,startTime_usec,endTime_usec\n11,0,40000\n2,50000,90000\n")
    (base / "trials_to_train.txt").write_text("user01_led.aedat\n\n")
    data = datasets.load("dvs128-gesture", "train", tmp_path)
    assert data.labels.tolist() == [10, 1] and data.images.shape == (2, 4, 2, 128, 128)
    assert data.images[0].sum() == (e["t"] < 40000).sum()
    (base / "trials_to_train.txt").write_text("../user01_led.aedat\n")
    with pytest.raises(SpikeTicketError, match="not the name of an"):
        datasets.load("dvs128-gesture", "train", tmp_path)
    (base / "trials_to_train.txt").write_text("user01_led.aedat\n")
    (base / "user01_led_labels.csv").write_text("class,start,end\n12,0,40000\n")
    with pytest.raises(SpikeTicketError, match="class 12"):
        datasets.load("dvs128-gesture", "train", tmp_path)


def test_gesture_of_tonic_and_spikingjelly(tmp_path):
    user = tmp_path / "a/DVSGesture/ibmGestureTest/user24_led"
    user.mkdir(parents=True)
    e = write.sample(50, (128, 128))
    for label in (0, 10, 2):
        array = np.stack([e["x"], e["y"], e["p"], e["t"] / 1000], 1)  # milliseconds
        save_npy(user / f"{label}.npy", array)
    data = datasets.load("dvs128-gesture", "test", tmp_path / "a", frames_by="time")
    assert data.labels.tolist() == [0, 2, 10]
    lay(tmp_path / "b/events_np/test", ["0", "10", "2"], ".npz", each=1)
    data = datasets.load("dvs128-gesture", "test", tmp_path / "b")
    assert sorted(data.labels.tolist()) == [0, 2, 10]  # by value, not by order of text


def test_poker_of_tonic(tmp_path):
    for name in ("cl", "di", "he", "sp"):
        folder = tmp_path / "POKERDVS/pips_train" / name
        folder.mkdir(parents=True)
        e = write.sample(20, (35, 35))
        save_npy(folder / "1.npy", np.stack([e[c] for c in "txyp"], 1))
    data = datasets.load("poker-dvs", "train", tmp_path)
    assert data.labels.tolist() == [0, 1, 2, 3] and data.names[2] == "heart"
    assert data.images.shape == (4, 4, 2, 35, 35)


def test_any_folder_of_events(tmp_path):
    lay(tmp_path / "train", ["10", "9"], ".npz")
    data = datasets.load(str(tmp_path), "train", sensor=SENSOR)
    assert data.names == ("9", "10") and data.labels.tolist() == [0, 1, 0, 1]
    with pytest.raises(SpikeTicketError, match="give sensor"):
        datasets.load(str(tmp_path), "train")
    with pytest.raises(SpikeTicketError, match="no folder test/CLASS"):
        datasets.load(str(tmp_path), "test", sensor=SENSOR)


def test_packs_and_their_splits(tmp_path):
    recordings = [write.sample(20 + i, SENSOR, i) for i in range(8)]
    labels = [0, 0, 0, 0, 1, 1, 1, 1]
    write.pack(tmp_path / "nmnist_test8.npz", recordings, labels)
    data = datasets.load("n-mnist", "test", tmp_path)
    assert data.labels.tolist() == labels
    assert [int(i.sum()) for i in data.images] == list(range(20, 28))
    with pytest.raises(SpikeTicketError, match="holds the test split"):
        datasets.load(str(tmp_path / "nmnist_test8.npz"), "train")
    write.pack(tmp_path / "poker_dvs_8.npz", recordings, labels)
    train, test = (datasets.load("poker-dvs", split, tmp_path) for split in ("train", "test"))
    assert train.labels.tolist() == [0, 1] * 3 and test.labels.tolist() == [0, 1]
    assert [int(i.sum()) for i in test.images] == [23, 27]
    write.pack(tmp_path / "dvs128_gesture_8.npz", recordings, [-1] * 8, by_eye=np.array(labels))
    with pytest.raises(SpikeTicketError, match="has no label"):
        datasets.load("dvs128-gesture", "test", tmp_path)
    assert len(datasets.load("dvs128-gesture", "test", tmp_path, label_key="by_eye")) == 2


def test_several_packs_of_a_set_are_joined_without_doubles(tmp_path):
    recordings = [write.sample(20 + i, SENSOR, i) for i in range(7)]
    write.pack(tmp_path / "nmnist_train5.npz", recordings[:5], [0, 1, 2, 3, 4])
    write.pack(tmp_path / "nmnist_34_train4.npz", recordings[3:], [3, 4, 4, 3])
    write.pack(tmp_path / "nmnist_test1.npz", recordings[:1], [0])
    data = datasets.load("n-mnist", "train", tmp_path)
    assert [int(i.sum()) for i in data.images] == list(range(20, 27))
    assert data.labels.tolist() == [0, 1, 2, 3, 4, 4, 3]
    assert "nmnist_train5.npz + " in data.source
    assert len(datasets.load("n-mnist", "train", tmp_path, limit=6)) == 6
    assert len(datasets.load("n-mnist", "test", tmp_path)) == 1
    alone = datasets.load(str(tmp_path / "nmnist_34_train4.npz"), "train")
    assert alone.labels.tolist() == [3, 4, 4, 3]
    write.pack(tmp_path / "nmnist_x_train.npz", recordings, range(7),
               class_names=np.array(["a"] * 7))
    with pytest.raises(SpikeTicketError, match=r"nmnist_x_train\.npz: its classes a, a.* are not"):
        datasets.load("n-mnist", "train", tmp_path)


@pytest.mark.parametrize("change, message", [
    ({"off": np.array([0, 20, 10, 63])}, "do not rise"), ({"off": np.array([0, 63])}, "do not go"),
    ({"label": np.zeros(3)}, "label is float64"), ({"x": np.zeros(5, int)}, "differ in length"),
    ({"sensor": np.array([3, 3, 2])}, "outside a sensor of 3 x 3"),
    ({"dt": np.full(63, -1)}, "negative"), ({"sensor": np.zeros((2, 2))}, "no array sensor")])
def test_lying_packs(tmp_path, change, message):
    path = tmp_path / "a.npz"
    write.pack(path, [write.sample(20 + i, SENSOR, i) for i in range(3)], [0, 1, 2])
    with np.load(path) as old:
        fields = dict(old)
    np.savez(path, **{**fields, **change})
    with pytest.raises(SpikeTicketError, match=message):
        datasets.load(str(path), "train")


def test_frames_beyond_memory_are_refused(tmp_path):
    lay(tmp_path / "Test", DIGITS, ".bin")
    with pytest.raises(SpikeTicketError, match="exceed 4 GiB"):
        datasets.load("n-mnist", "test", tmp_path, timesteps=1024, size=2048)


def test_options_behind_the_name(tmp_path):
    lay(tmp_path / "Test", DIGITS, ".bin")
    text = "n-mnist:size=32x30,timesteps=3,fit=resize,max_count=1,frames_by=time,limit=4"
    data = datasets.load(text, "test", tmp_path)
    assert data.images.shape == (4, 3, 2, 30, 32) and data.images.max() == 1
    for text, message in (("n-mnist:size=big", "size is 'big'"), ("n-mnist:shape=3", "shape"),
                          ("n-mnist:time_unit=x", "time_unit")):
        with pytest.raises(SpikeTicketError, match=message):
            datasets.load(text, "test", tmp_path)


def test_the_environment_names_the_root(tmp_path, monkeypatch):
    lay(tmp_path / "Test", DIGITS, ".bin")
    monkeypatch.setenv("SPIKETICKET_DATA", str(tmp_path))
    assert len(datasets.load("n-mnist")) == 20


# -- real recordings, where SPIKETICKET_DATA has them -----------------------------------------


@pytest.mark.parametrize("name, shape", [
    ("n-mnist", (4, 2, 34, 34)), ("poker-dvs", (4, 2, 35, 35)), ("cifar10", (3, 32, 32)),
    ("mnist", (1, 28, 28))])
def test_real_data(name, shape):
    if not os.environ.get("SPIKETICKET_DATA"):
        pytest.skip("SPIKETICKET_DATA names no folder of data sets")
    try:
        data = datasets.load(name, "test", limit=100)
    except SpikeTicketError as error:
        if "expected" in str(error) or "put them there" in str(error):
            pytest.skip(str(error))
        raise
    assert data.images.shape[1:] == shape and len(data) <= 100
    assert data.images.any(axis=tuple(range(1, data.images.ndim))).all()
