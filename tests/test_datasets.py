"""Loaders for IDX files and .npz packs, whole and damaged."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from sw.data import datasets
from sw.errors import SpikeTicketError

ROOT = Path(__file__).resolve().parents[1]


def idx(array: np.ndarray) -> bytes:
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (5, 28, 28), np.uint8), np.array([0, 9, 3, 3, 1], np.uint8)


def write(folder: Path, images: np.ndarray, labels: np.ndarray, stem: str = "t10k",
          packed: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, array in (("images-idx3", images), ("labels-idx1", labels)):
        name, data = f"{stem}-{part}-ubyte", idx(array)
        if packed:
            (folder / (name + ".gz")).write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)


@pytest.mark.parametrize("sub", ["FashionMNIST/raw", "fashion-mnist", "."])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_layouts(tmp_path, arrays, sub, packed):
    write(tmp_path / sub, *arrays, packed=packed)
    data = datasets.load("fashion-mnist", "test", tmp_path)
    assert data.images.shape == (5, 1, 28, 28)
    assert np.array_equal(data.images[:, 0], arrays[0])
    assert data.labels.tolist() == [0, 9, 3, 3, 1]
    assert data.names[9] == "Ankle boot"
    assert len(data.first(2)) == 2


def test_mnist_train_split(tmp_path, arrays):
    write(tmp_path / "MNIST/raw", *arrays, stem="train")
    assert datasets.load("mnist", "train", tmp_path).names == tuple("0123456789")


def test_missing_files_name_the_expected_layout(tmp_path):
    with pytest.raises(SpikeTicketError, match=r"t10k-images.*FashionMNIST/raw.*apt-get"):
        datasets.load("fashion-mnist", "test", tmp_path)


def test_unknown_names(tmp_path):
    for name, near in (("fashon-mnist", "fashion-mnist"), ("cifar", "cifar10"),
                       (f"{tmp_path}/pakc.npy", "pack.npy")):
        (tmp_path / "pack.npy").write_bytes(b"x")
        with pytest.raises(SpikeTicketError, match=f"{name}' is unknown.*did you mean {near}.*"
                                                   "fashion-mnist, mnist, .*, the path of"):
            datasets.load(name)
    with pytest.raises(SpikeTicketError, match=r"'sise' is unknown; did you mean size"):
        datasets.load("mnist:sise=3")
    with pytest.raises(SpikeTicketError, match=r"no split 'val'; choose .* split off the training"):
        datasets.load("mnist", "val", tmp_path)
    with pytest.raises(SpikeTicketError, match="'dev' is not 'train', 'test' or 'val'"):
        datasets.load("mnist", "dev", tmp_path)


@pytest.mark.parametrize("name", ["FashionMNIST", "fashion_mnist", "Fashion-MNIST"])
def test_names_in_other_spellings(tmp_path, monkeypatch, arrays, name):
    write(tmp_path / "FashionMNIST/raw", *arrays)
    assert len(datasets.load(name, "test", tmp_path)) == 5
    monkeypatch.chdir(tmp_path)
    if name == "FashionMNIST":      # a folder of that name is the folder
        with pytest.raises(SpikeTicketError, match="FashionMNIST: no class folders"):
            datasets.load(name, "test", tmp_path)


@pytest.mark.parametrize("damage, message", [
    (lambda d: d[:-1], "the file holds"),
    (lambda d: d + b"\0", "the file holds more"),
    (lambda d: d[:9], "truncated in the header"),
    (lambda d: b"", "begins nowhere"),
    (lambda d: b"\x89PNG" + d, "not an IDX file"),
    (lambda d: d[:4] + b"\xff" * 12 + d[16:], "header claims"),
])
def test_damaged_idx(tmp_path, arrays, damage, message):
    write(tmp_path, *arrays)
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SpikeTicketError, match=message) as error:
        datasets.load("fashion-mnist", "test", tmp_path)
    assert str(path) in str(error.value)


def test_damaged_gzip(tmp_path, arrays):
    write(tmp_path, *arrays, packed=True)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for data in (whole[:len(whole) // 2], b"foreign", whole[:200] + b"\xff" * 40 + whole[240:]):
        path.write_bytes(data)
        with pytest.raises(SpikeTicketError, match=r"ubyte\.gz"):
            datasets.load("fashion-mnist", "test", tmp_path)


def test_images_and_labels_must_agree(tmp_path, arrays):
    write(tmp_path, arrays[0], arrays[1][:4])
    with pytest.raises(SpikeTicketError, match="does not go with"):
        datasets.load("fashion-mnist", "test", tmp_path)


def test_label_out_of_range(tmp_path, arrays):
    write(tmp_path, arrays[0], np.full(5, 10))
    with pytest.raises(SpikeTicketError, match="label 10"):
        datasets.load("fashion-mnist", "test", tmp_path)


def test_npz_pack(tmp_path, arrays):
    path = tmp_path / "pack.npz"
    np.savez_compressed(path, x_test=arrays[0], y_test=arrays[1])
    data = datasets.load(str(path))
    assert data.images.shape == (5, 1, 28, 28) and data.names == ()
    with pytest.raises(SpikeTicketError, match="no array x_train"):
        datasets.load(str(path), "train")


@pytest.mark.parametrize("content, message", [
    (b"not a zip", "not a readable .npz"),
    (b"", "not a readable .npz"),
    (b"PK\x03\x04 broken", "not a readable .npz"),
])
def test_damaged_npz(tmp_path, content, message):
    path = tmp_path / "pack.npz"
    path.write_bytes(content)
    with pytest.raises(SpikeTicketError, match=message):
        datasets.load(str(path))


def test_truncated_npz(tmp_path, arrays):
    path = tmp_path / "pack.npz"
    np.savez(path, x_test=arrays[0], y_test=arrays[1])
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(SpikeTicketError, match=r"pack\.npz"):
        datasets.load(str(path))


def test_npz_with_objects_is_never_unpickled(tmp_path):
    path = tmp_path / "pack.npz"
    np.savez(path, x_test=np.array([{"a": 1}], dtype=object), y_test=np.zeros(1, np.uint8))
    with pytest.raises(SpikeTicketError, match="not a readable"):
        datasets.load(str(path))


@pytest.mark.parametrize("images, labels, message", [
    (np.zeros((2, 4, 4)) - 1, np.zeros(2, np.uint8), "normalised"),
    (np.zeros((2, 4, 4), np.uint8), np.zeros(3, np.uint8), "2 images but labels"),
    (np.zeros((2, 4, 4), np.uint8), np.full(2, 0.5), "label 0.5 of sample 0"),
    (np.zeros((0, 4, 4), np.uint8), np.zeros(0, np.uint8), "no image"),
    (np.zeros((1, 4, 4), np.uint8), np.array([-1]), "label -1"),
])
def test_npz_arrays_are_checked(tmp_path, images, labels, message):
    path = tmp_path / "pack.npz"
    np.savez(path, x_test=images, y_test=labels)
    with pytest.raises(SpikeTicketError, match=message):
        datasets.load(str(path))


def test_missing_npz():
    with pytest.raises(SpikeTicketError, match="no such file"):
        datasets.load("nowhere.npz")


def test_too_many_images_asked_for(tmp_path, arrays):
    write(tmp_path, *arrays)
    for count, message in ((6, "6 images asked for, it holds 5"),
                           (-3, "-3 images asked for; give 1 or more")):
        with pytest.raises(SpikeTicketError, match=message):
            datasets.load("fashion-mnist", "test", tmp_path).first(count)


def test_bundled_pack():
    data = datasets.load(str(ROOT / "bundled/fashion-mnist-test500.npz"))
    assert data.images.shape == (500, 1, 28, 28)
    assert data.names == datasets.FASHION_LABELS
    assert set(data.labels.tolist()) == set(range(10))
