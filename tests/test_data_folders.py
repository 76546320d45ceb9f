"""Folders of class folders as people have them: splits, sizes, strangers, half of it missing."""

import numpy as np
import pytest
from PIL import Image

from sim.samples import event_files as write
from sw.data import datasets, folders
from sw.errors import SpikeTicketError


def lay(root, split, classes, each=2, size=(8, 6), suffix=".png", colour=False):
    """Pictures whose value is 10 times their class, plus their number."""
    for label, name in enumerate(classes):
        folder = root / split / name
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(each):
            value = np.full((size[1], size[0], 3)[:3 if colour else 2], 10 * label + i, np.uint8)
            Image.fromarray(value).save(folder / f"{i}{suffix}")
    return root


@pytest.mark.parametrize("train, test", [("train", "test"), ("Training", "Testing"),
                                         ("TRAIN", "val"), ("train", "validation")])
def test_split_folders(tmp_path, train, test):
    lay(lay(tmp_path, train, ["cat", "dog"]), test, ["cat", "dog"], each=1)
    found = datasets.load(str(tmp_path), "train")
    assert found.names == ("cat", "dog") and found.labels.tolist() == [0, 1, 0, 1]
    assert found.images.shape == (4, 1, 6, 8)
    assert found.images[:, 0, 0, 0].tolist() == [0, 10, 1, 11] and not found.notes
    found = datasets.load(tmp_path, "test")
    assert found.labels.tolist() == [0, 1]
    assert bool(found.notes) == test.startswith("val")      # taken for the test split: said
    if not found.notes:
        with pytest.raises(SpikeTicketError, match="no folder val/CLASS, only"):
            datasets.load(tmp_path, "val")
    else:
        assert datasets.load(tmp_path, "val").images.shape == found.images.shape


def test_a_single_folder_is_split_and_says_so(tmp_path):
    lay(tmp_path, ".", ["0", "1", "10", "2"], each=8)
    test, train = datasets.load(tmp_path, "test"), datasets.load(tmp_path, "train")
    assert test.names == ("0", "1", "2", "10")              # by value
    assert test.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert test.images[:, 0, 0, 0].tolist() == [3, 13, 33, 23, 7, 17, 37, 27]
    assert len(train) == 24 and "every 4th file of a class" in train.notes[0]


def test_too_few_files_for_a_split_are_counted(tmp_path):
    lay(tmp_path, ".", ["0", "1"], each=2)
    with pytest.raises(SpikeTicketError, match="its 4 files in folders of 2 classes leave none to "
                       "the test split, which has every 4th"):
        datasets.load(tmp_path, "test")


def test_a_class_that_a_split_lacks_does_not_shift_the_others(tmp_path):
    lay(tmp_path, "train", ["ant", "bee", "cow"])
    lay(tmp_path, "test", ["cow", "bee"], each=1)
    found = datasets.load(tmp_path, "test")
    assert found.names == ("ant", "bee", "cow") and found.labels.tolist() == [1, 2]
    assert found.notes == (f"{tmp_path / 'test'}: no file of class ant of 3 in the test split",)


def test_files_of_systems_are_passed_over_and_others_named(tmp_path):
    lay(tmp_path, "test", ["a", "b"])
    for place in ("test/a/._0.png", "test/a/.DS_Store", "test/b/Thumbs.db", "test/a/desktop.ini"):
        (tmp_path / place).write_bytes(b"\0\5\x16\7")
    (tmp_path / "__MACOSX/test/a").mkdir(parents=True)
    (tmp_path / "test/__MACOSX").mkdir()
    (tmp_path / "test/.ipynb_checkpoints").mkdir()
    found = datasets.load(tmp_path)
    assert found.names == ("a", "b") and len(found) == 4 and not found.notes
    (tmp_path / "test/a/readme.txt").write_text("x")
    (tmp_path / "test/b/photo.heic").write_text("x")
    [note] = datasets.load(tmp_path).notes
    assert note.startswith(f"{tmp_path / 'test/a/readme.txt'} (and 1 more): passed over")


def test_an_empty_file_is_refused(tmp_path):
    lay(tmp_path, "test", ["a", "b"])
    (tmp_path / "test/b/1.png").write_bytes(b"")
    with pytest.raises(SpikeTicketError, match=r"b/1\.png: the file is empty; a copy or conv"):
        datasets.load(tmp_path)


def test_mixed_sizes_need_a_size(tmp_path):
    lay(tmp_path, "test", ["a"], size=(8, 6))
    lay(tmp_path, "test", ["b"], size=(12, 6))
    with pytest.raises(SpikeTicketError, match=r"12 x 6, but .*a/0.png is 8 x 6; .*fit=resize"):
        datasets.load(tmp_path)
    found = datasets.load(f"{tmp_path}:size=8x6,fit=resize")
    assert found.images.shape == (4, 1, 6, 8)
    [note] = found.notes
    assert note == (f"{tmp_path}/test/b/0.png (and 1 more): not in the proportion of 8 x 6; "
                    "stretched")
    found = datasets.load(f"{tmp_path}:size=4x2")
    assert "less than half of it" in found.notes[0]


@pytest.mark.parametrize("first", ["a", "b"])
def test_grey_among_colour(tmp_path, first):
    other = {"a": "b", "b": "a"}[first]
    lay(tmp_path, "test", [first])
    lay(tmp_path, "test", [other], colour=True)
    found = datasets.load(tmp_path)
    assert found.images.shape == (4, 3, 6, 8) and "repeated to 3 channels" in found.notes[0]
    assert (found.images[:, :, 0, 0] == [[0] * 3, [0] * 3, [1] * 3, [1] * 3]).all()
    assert datasets.load(f"{tmp_path}:channels=1").images.shape == (4, 1, 6, 8)


@pytest.mark.parametrize("suffix", [".JPG", ".bmp", ".webp", ".gif", ".tiff", ".ppm"])
def test_any_format(tmp_path, suffix):
    lay(tmp_path, "test", ["a", "b"], suffix=suffix, colour=suffix == ".ppm")
    found = datasets.load(tmp_path)
    assert (np.abs(found.images[:, 0, 0, 0].astype(int) - [0, 10, 1, 11]) <= 2).all()


def test_what_is_no_set_of_classes(tmp_path):
    with pytest.raises(SpikeTicketError, match=r"no class folders with pictures .*n-mnist"):
        datasets.load(tmp_path)
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(SpikeTicketError, match="files without class folders have no labels"):
        datasets.load(tmp_path)
    with pytest.raises(SpikeTicketError, match="one picture has no label; spiketicket classify"):
        datasets.load(tmp_path / "a.png")
    lay(tmp_path, "train", ["a"])
    with pytest.raises(SpikeTicketError, match="no folder test/CLASS, only train"):
        datasets.load(tmp_path)
    (tmp_path / "train/b").mkdir()
    (tmp_path / "train/b/0.bin").write_bytes(write.atis_bin(write.sample()))
    with pytest.raises(SpikeTicketError, match="keep one kind"):
        datasets.load(tmp_path, "train")
    lay(tmp_path, "Train", ["a"])
    with pytest.raises(SpikeTicketError, match=r"both .* are its train split"):
        datasets.load(tmp_path, "train")


def test_a_folder_deeper(tmp_path):
    lay(tmp_path, "train/a", ["images"])                    # train/a/images/0.png
    lay(tmp_path, "train/b", ["images"])
    assert datasets.load(tmp_path, "train").labels.tolist() == [0, 1, 0, 1]


def test_recordings_that_state_their_sensor(tmp_path):
    folder = tmp_path / "train/x"
    folder.mkdir(parents=True)
    e = write.sample(30, (34, 34))
    (folder / "0.aedat4").write_bytes(write.aedat4(e))
    assert datasets.load(tmp_path, "train").images.shape == (1, 4, 2, 34, 34)
    (folder / "1.aedat4").write_bytes(write.aedat4(e, (40, 34)))
    with pytest.raises(SpikeTicketError, match="recorded by a 40 x 34 sensor, the first by 34"):
        datasets.load(tmp_path, "train")


def test_numbers_in_names_are_numbers():
    assert sorted(["10.png", "9.png", "a2", "a10"], key=folders.natural) == [
        "9.png", "10.png", "a2", "a10"]
