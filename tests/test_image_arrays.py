"""Arrays of pictures and labels: types, ranges, layouts, names; the right value written down."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sw.data import datasets
from sw.data.image_arrays import labels_of, pixels
from sw.data.notes import Notes
from sw.errors import SpikeTicketError

RNG = np.random.default_rng(0)
CHW = RNG.integers(0, 256, (4, 3, 6, 8), np.uint8)
GREY = RNG.integers(2, 256, (4, 6, 8), np.uint8)
LABELS = np.array([0, 1, 2, 1])


def made(array, layout=""):
    """(pixels, notes)"""
    notes = Notes()
    return pixels(np.asarray(array), "here", notes, layout), notes.lines()


@pytest.mark.parametrize("array, note", [
    (CHW, None), (CHW.transpose(0, 2, 3, 1), "channels last (HWC)"),
    (CHW.astype(np.int64), None), (CHW.astype(np.uint16), None),
    (CHW.astype(np.float32), "float32 from 0 to 255, taken as 0..255"),
    (CHW / 255, "float64 from 0 to 1; scaled to 0..255"),
    ((CHW / 255).astype(np.float32), "float32 from 0 to 1; scaled to 0..255"),
    (CHW.astype(np.uint16) * 257, "uint16 up to 65535; the upper 8 bits are taken"),
    (np.concatenate([CHW, np.full((4, 1, 6, 8), 255, np.uint8)], 1), None)])
def test_kinds_that_are_the_same_picture(array, note):
    if array.dtype == np.float32 and array.max() > 1:
        assert array.max() == 255
    result, notes = made(array)
    assert result.dtype == np.uint8 and np.array_equal(result, CHW)
    assert (notes == () if note is None else note in notes[0]), notes


def test_grey_bool_and_transparent():
    assert np.array_equal(made(GREY)[0][:, 0], GREY)
    assert np.array_equal(made(GREY[..., None])[0][:, 0], GREY)
    result, notes = made(GREY > 99)
    assert set(result.ravel().tolist()) == {0, 255} and "bool" in notes[0]
    alpha = np.zeros((1, 2, 2, 4), np.uint8)
    alpha[..., 3] = [[0, 51], [204, 255]]
    result, notes = made(alpha)
    assert result[0, 0].tolist() == [[255, 204], [51, 0]]
    assert notes[1] == "here: transparent; composed on white"
    assert "no pixel is above 1" in made(np.ones((2, 4, 4), np.uint8))[1][0]
    assert "and rounded" in made(np.full((2, 4, 4), 7.5))[1][0]


@pytest.mark.parametrize("array, message", [
    (CHW - 100.0, "normalised pixels"), (CHW * 2.0, "more than 255"),
    (np.full((1, 2, 2), np.nan), "infinities or NaN"), (CHW.astype(np.int64) - 300, "normalised"),
    (CHW.astype(np.int32) * 9, "more than 255"), (CHW.astype(np.complex64), "no type of pixels"),
    (np.zeros((2, 784), np.uint8), r"one row a picture \(1 x 28 x 28\?\)"),
    (np.zeros((2, 3072), np.uint8), r"3 x 32 x 32"), (np.zeros((2, 3, 8, 3), np.uint8), "layout="),
    (np.zeros((2, 9, 8, 7), np.uint8), "layout=chw"), (np.zeros(3, np.uint8), "is not .N, H, W."),
    (np.zeros((2, 4, 9, 9, 2), np.uint8), "channels last"),
    (np.full((2, 4, 2, 9, 9), 0.5), "whole numbers from 0 to 255")])
def test_what_nobody_can_know_is_refused(array, message):
    with pytest.raises(SpikeTicketError, match=message):
        made(array)


def test_layout_settles_it():
    assert made(np.zeros((2, 3, 8, 3), np.uint8), "hwc")[0].shape == (2, 3, 3, 8)
    assert made(np.zeros((2, 9, 8, 7), np.uint8), "chw")[0].shape == (2, 9, 8, 7)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=3, max_dims=3, max_side=5)),
       st.sampled_from([np.float16, np.float32, np.float64]))
def test_scaling_to_fractions_and_back_is_exact(array, kind):
    if not (array > 0).any():
        return
    assert np.array_equal(made((array / 255).astype(kind))[0][:, 0], array)


@pytest.mark.parametrize("values, right", [
    ([0, 2, 1], [0, 2, 1]), (np.array([[0], [2], [1]], np.uint8), [0, 2, 1]),
    ([0.0, 2.0, 1.0], [0, 2, 1]), ([True, False], [1, 0]),
    (np.eye(3)[[0, 2, 1]], [0, 2, 1])])
def test_labels(values, right):
    found = labels_of(np.asarray(values), "here", Notes(), 3)
    assert found.dtype == np.int64 and found.tolist() == right


@pytest.mark.parametrize("values, message", [
    ([0, 3, 1], r"label 3 of sample 1 is outside 0\.\.2; they run from 0 to 3"),
    ([1, 2, 3], "subtract 1 if they count from there"), ([0, -1], "negative ones usually mark"),
    ([0.5, 1], "label 0.5 of sample 0 is not a whole number"), ([np.inf], "not a whole number"),
    (["cat"], "labels are text"), (np.ones((2, 3)), "rows of a single 1"),
    (np.zeros((2, 2, 2)), "are not .N."), (np.array([1 << 63], np.uint64), "outside")])
def test_labels_that_are_none(values, message):
    with pytest.raises(SpikeTicketError, match=message):
        labels_of(np.asarray(values), "here", Notes(), 3)


@pytest.mark.parametrize("keys", [
    ("x_test", "y_test"), ("X_test", "Y_test"), ("test_images", "test_labels"), ("x", "y"),
    ("X", "Y"), ("X", "y"), ("data", "labels"), ("images", "labels"), ("arr_0", "arr_1"),
    ("test_data", "test_targets"), ("images_test", "labels_test")])
def test_usual_names(tmp_path, keys):
    path = tmp_path / "my_test.npz"
    np.savez(path, **{keys[0]: GREY, keys[1]: LABELS})
    found = datasets.load(str(path))
    assert np.array_equal(found.images[:, 0], GREY) and found.labels.tolist() == [0, 1, 2, 1]
    with pytest.raises(SpikeTicketError, match=r"no array x_train|holds the test split by its"):
        datasets.load(str(path), "train")


def test_a_pack_without_splits_is_split_and_says_so(tmp_path):
    path = tmp_path / "mine.npz"
    labels = np.repeat([0, 1], 8)
    images = np.arange(16, dtype=np.uint8)[:, None, None] * np.ones((16, 4, 4), np.uint8)
    np.savez(path, x=images, y=labels)
    test, train = datasets.load(str(path), "test"), datasets.load(str(path), "train")
    assert test.images[:, 0, 0, 0].tolist() == [3, 11, 7, 15] and test.labels.tolist() == [0, 1] * 2
    assert len(train) == 12 and not set(train.images[:, 0, 0, 0]) & {3, 7, 11, 15}
    assert "every 4th sample of a class is for testing" in test.notes[0]


@pytest.mark.parametrize("fields, message", [
    ({"x_test": GREY, "images_test": GREY, "y_test": LABELS, "labels_test": LABELS},
     "may all be the test split"),
    ({"x_test": GREY, "X_test": GREY, "y_test": LABELS}, "may all be the test split"),
    ({"a": GREY, "b": LABELS}, "no array x_test, y_test; it holds a, b"),
    ({"x_test": GREY, "y_test": LABELS[:3]}, "4 images but labels of 3"),
    ({"x_test": GREY, "y_test": LABELS, "class_names": np.array(["a", "b"])},
     r"label 2 of sample 2 is outside 0\.\.1")])
def test_packs_that_are_refused(tmp_path, fields, message):
    np.savez(tmp_path / "a.npz", **fields)
    with pytest.raises(SpikeTicketError, match=message):
        datasets.load(str(tmp_path / "a.npz"))


def test_one_recording_is_no_set(tmp_path):
    np.savez(tmp_path / "a.npz", **{key: np.arange(5) for key in "xytp"})
    with pytest.raises(SpikeTicketError, match=r"one recording \(x, y, t, p\) has no label"):
        datasets.load(tmp_path / "a.npz")


def test_npy_files_with_labels_beside(tmp_path):
    for x, y in (("x_test", "y_test"), ("Images", "Labels")):
        folder = tmp_path / x
        folder.mkdir()
        np.save(folder / f"{x}.npy", (GREY / 255).astype(np.float32))
        with pytest.raises(SpikeTicketError, match="images without labels"):
            datasets.load(str(folder / f"{x}.npy"))
        np.save(folder / f"{y}.npy", np.array([0, 0, 0, 0]))
        (folder / f"._{x}.npy").write_bytes(b"\0\5\x16\7")     # a Mac's
        found = datasets.load(str(folder / f"{x}.npy"))
        whole = datasets.load(str(folder))
        assert np.array_equal(found.images, whole.images)
        assert np.array_equal(found.images[:, 0], GREY if x == "x_test" else GREY[3:])
