"""CIFAR batches and JPEG packs; size and channels of images."""

import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest

from sim.samples import event_files as write
from sw.data import datasets
from sw.data.cifar import read_python_batch
from sw.data.datasets import Options
from sw.errors import SpikeTicketError


def cifar_arrays(count: int = 3, seed: int = 0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 3, 32, 32), np.uint8), [int(n) for n in
                                                                rng.integers(0, 10, count)]


def test_cifar10_in_torchvisions_folder_is_read_without_pickle(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle, "load", None)
    monkeypatch.setattr(pickle, "loads", None)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    parts = [cifar_arrays(2, seed) for seed in range(5)]
    for i, (images, labels) in enumerate(parts, 1):
        (folder / f"data_batch_{i}").write_bytes(write.python2_batch(images, labels))
    data = datasets.load("cifar10", "train", tmp_path)
    assert np.array_equal(data.images, np.concatenate([p[0] for p in parts]))
    assert data.labels.tolist() == list(itertools.chain(*(p[1] for p in parts)))
    assert data.names[0] == "airplane"
    with pytest.raises(SpikeTicketError, match=r"test split; expected cifar-10-batches-py"):
        datasets.load("cifar10", "test", tmp_path)
    (folder / "test_batch").write_bytes(write.python2_batch(*cifar_arrays())[:-40])
    with pytest.raises(SpikeTicketError, match="not a readable CIFAR batch"):
        datasets.load("cifar10", "test", tmp_path)


def test_cifar_batches_call_nothing(tmp_path):
    path = tmp_path / "test_batch"
    path.write_bytes(b"\x80\x02cos\nsystem\nU\x05touch\x85R.")
    with pytest.raises(SpikeTicketError, match="no dictionary"):
        read_python_batch(path)
    path.write_bytes(b"\x80\x02i__main__\nx\n.")
    with pytest.raises(SpikeTicketError, match="opcode INST"):
        read_python_batch(path)


def test_cifar_binary_versions(tmp_path):
    images, labels = cifar_arrays()
    rows = np.concatenate([np.array(labels, np.uint8)[:, None], images.reshape(3, -1)], 1)
    (tmp_path / "cifar-10-batches-bin").mkdir()
    (tmp_path / "cifar-10-batches-bin/test_batch.bin").write_bytes(rows.tobytes())
    data = datasets.load("cifar10", "test", tmp_path)
    assert np.array_equal(data.images, images) and data.labels.tolist() == labels
    (tmp_path / "cifar-100-binary").mkdir()
    coarse = np.concatenate([np.full((3, 1), 19, np.uint8), rows], 1)
    (tmp_path / "cifar-100-binary/test.bin").write_bytes(coarse.tobytes())
    data = datasets.load("cifar100", "test", tmp_path)
    assert data.labels.tolist() == labels and len(data.names) == 100
    (tmp_path / "cifar-100-binary/test.bin").write_bytes(coarse.tobytes()[:-1])
    with pytest.raises(SpikeTicketError, match="no multiple of 3074"):
        datasets.load("cifar100", "test", tmp_path)


def test_cifar100_of_torchvision(tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    images, labels = cifar_arrays()
    (folder / "train").write_bytes(write.python2_batch(images, labels, "fine_labels"))
    data = datasets.load("cifar100", "train", tmp_path)
    assert np.array_equal(data.images, images) and data.labels.tolist() == labels


def jpeg_pack(path: Path, images: list, **change) -> None:
    import io

    from PIL import Image
    parts = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=95)
        parts.append(np.frombuffer(file.getvalue(), np.uint8))
    off = np.cumsum([0, *(len(p) for p in parts)]).astype(np.uint32)
    np.savez(path, **{"test_jpeg": np.concatenate(parts), "test_off": off,
                      "test_y": np.arange(len(images), dtype=np.uint8), **change})


def test_jpeg_packs(tmp_path):
    path = tmp_path / "cifar10_x.npz"
    smooth = [np.full((32, 32, 3), 40 * i, np.uint8) for i in range(3)]
    jpeg_pack(path, smooth)
    data = datasets.load("cifar10", "test", tmp_path)
    assert data.images.shape == (3, 3, 32, 32) and data.labels.tolist() == [0, 1, 2]
    assert np.abs(data.images[2].astype(int) - 80).max() <= 2
    assert len(datasets.load(str(path), "test", limit=2)) == 2
    with pytest.raises(SpikeTicketError, match="no array train_jpeg"):
        datasets.load(str(path), "train")
    jpeg_pack(path, [smooth[0], smooth[1][:16]])
    with pytest.raises(SpikeTicketError, match="image 1 is 32 x 16, not 32 x 32"):
        datasets.load(str(path), "test")
    jpeg_pack(path, smooth, test_off=np.array([0, 5, 9, 99999]))
    with pytest.raises(SpikeTicketError, match="do not rise from 0"):
        datasets.load(str(path), "test")
    jpeg_pack(path, smooth, test_jpeg=np.zeros(10, np.uint8), test_off=np.array([0, 3, 6, 10]))
    with pytest.raises(SpikeTicketError, match="no readable JPEG"):
        datasets.load(str(path), "test")


def test_size_and_channels_of_images(tmp_path):
    images, labels = cifar_arrays()
    np.savez(tmp_path / "a.npz", x_test=images, y_test=np.array(labels))
    path = str(tmp_path / "a.npz")
    assert np.array_equal(datasets.load(path, size=36).images[:, :, 2:34, 2:34], images)
    assert np.array_equal(datasets.load(path, size=28).images, images[:, :, 2:30, 2:30])
    assert np.array_equal(datasets.load(path, size=(32, 27)).images, images[:, :, 3:30])
    grey = datasets.load(path, channels=1).images
    luma = np.tensordot(images.astype(float), [0.299, 0.587, 0.114], (1, 0))
    assert grey.shape == (3, 1, 32, 32) and np.abs(grey[:, 0] - luma).max() <= 0.5 + 1e-9
    np.savez(tmp_path / "g.npz", x_test=grey, y_test=np.array(labels))
    assert np.array_equal(datasets.load(str(tmp_path / "g.npz"), channels=3).images,
                          np.repeat(grey, 3, 1))
    assert datasets.load(path, size=16, fit="resize").images.shape == (3, 3, 16, 16)
    with pytest.raises(SpikeTicketError, match="'crop' cannot"):
        datasets.load(path, size=40, fit="crop")


def test_options_are_checked(tmp_path):
    for more, message in (({"channels": 2}, "channels 2"), ({"limit": 0}, "limit 0"),
                          ({"size": "big"}, "size 'big'"), ({"fit": "warp"}, "warp"),
                          ({"sensor": [1]}, "sensor"), ({"sensor": [0, 5]}, r"sensor \[0, 5\]"),
                          ({"timesteps": -1}, "timesteps -1"), ({"timesteps": "4"}, "'4'"),
                          ({"max_count": 256}, "max_count 256 .* 1 to 255"),
                          ({"frames_by": "space"}, "frames_by 'space'"), ({"size": 0}, "size 0"),
                          ({"time_unit": 0}, "time_unit 0"), ({"limit": 1.5}, "limit 1.5"),
                          ({"colour": 1}, "'colour' is unknown; did you mean columns")):
        with pytest.raises(SpikeTicketError, match=message):
            datasets.load("mnist", "test", tmp_path, **more)
    assert Options(size=[32, 16]).width_height == (32, 16)


