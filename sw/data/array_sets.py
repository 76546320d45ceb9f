"""Image sets in arrays by name: `.npz` packs, folders of `.npy` files, `x.npy` with `y.npy`.

Names are found whatever their case: x_train and y_train, train_images and train_labels, X and Y,
data and labels, images and labels, arr_0 and arr_1 (`numpy.savez` without names). Two that would do
are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from ..errors import BadInput, SpikeTicketError
from . import folders
from .arrays import open_npz, read_npy
from .data_options import Options
from .image_arrays import labels_of, pixels
from .notes import Notes
from .samples import Images

PAIRS = (("x", "y"), ("images", "labels"), ("image", "label"), ("data", "labels"),
         ("data", "label"), ("data", "target"), ("data", "targets"), ("images", "targets"),
         ("images", "target"), ("features", "labels"), ("inputs", "targets"), ("samples", "labels"),
         ("imgs", "labels"), ("frames", "labels"))
"""Names of images and of labels."""
_UNSPLIT = (*PAIRS, ("arr_0", "arr_1"))


def keys_of(names: Collection[str], split: str) -> tuple[str, str, bool] | None:
    """(images, labels, whether their names say the split) among `names`; None where none fit.

    Raises SpikeTicketError where several do.
    """
    lower: dict[str, list[str]] = {}
    for name in names:
        lower.setdefault(name.lower(), []).append(name)
    for stated, pairs in ((True, [(form.format(n=x, s=word), form.format(n=y, s=word))
                                  for word in folders.SPLITS[split]
                                  for x, y in PAIRS for form in ("{n}_{s}", "{s}_{n}", "{n}{s}")]),
                          (False, _UNSPLIT)):
        found = [(x, y) for x, y in pairs if x in lower and y in lower]
        if len({x for x, _ in found}) > 1 or any(len(lower[n]) > 1 for pair in found for n in pair):
            several = sorted({name for pair in found for key in pair for name in lower[key]})
            raise BadInput(f"{', '.join(several)} may all be the {split} split; keep one "
                           "array of images and one of labels")
        if found:
            return lower[found[0][0]][0], lower[found[0][1]][0], stated
    return None


def has_split(names: Collection[str]) -> bool:
    """Whether names say that their arrays belong to a split."""
    found = (keys_of(names, split) for split in folders.SPLITS)
    return any(keys is not None and keys[2] for keys in found)


def from_arrays(names: Collection[str], read: Callable[[list[str]], dict[str, np.ndarray]],
                split: str, options: Options, source: str, notes: Notes) -> Images:
    """A split of named arrays. Without splits in the names, every fourth sample of a class (the
    4th, 8th, ...) is for testing, with a note, unless the source's own name says the split."""
    try:
        keys = keys_of(names, split)
    except SpikeTicketError as error:
        raise BadInput(f"{source}: {error}") from None
    if keys is None or (not keys[2] and has_split(names)):
        raise BadInput(f"{source}: no array x_{split}, y_{split}; it holds "
                       f"{', '.join(sorted(names)[:12]) or 'nothing'}, known names are "
                       f"x_{split} and y_{split}, {split}_images and {split}_labels, x and "
                       "y, data and labels, images and labels, arr_0 and arr_1")
    arrays = read([keys[0], keys[1], "class_names"])
    held = tuple(str(n) for n in arrays.get("class_names", np.zeros(0, "U1")).ravel())
    images, labels = arrays[keys[0]], arrays[keys[1]]
    if len(images.shape) == 0 or len(labels.shape) == 0 or len(images) != len(labels):
        raise BadInput(f"{source}: {keys[0]} {list(images.shape)} and {keys[1]} "
                       f"{list(labels.shape)} differ in length; {_count(images)} images "
                       f"but labels of {_count(labels)}")
    if not len(images):
        raise BadInput(f"{source}: holds no image")
    labels = labels_of(labels, f"{source}: {keys[1]}", notes, len(held))
    images = pixels(images, f"{source}: {keys[0]}", notes, options.layout)
    if not keys[2]:
        chosen = split_of(labels, split, Path(source).name, source, notes)
        images, labels = images[chosen], labels[chosen]
    return Images(images, labels, held, source, notes.lines())


def _count(array: np.ndarray) -> int:
    return len(array) if array.ndim else 1


def split_of(labels: np.ndarray, split: str, name: str, source: str, notes: Notes) -> np.ndarray:
    """Indices of a split of samples that do not say theirs, classes taking turns.

    A `name` with one split's word in it holds that split only; asked for another, it is refused.
    """
    stated = [word for word in folders.SPLITS if word in name.lower()]
    if len(stated) == 1:
        if stated[0] != split:
            raise BadInput(f"{source}: holds the {stated[0]} split by its name, not "
                           f"{split}")
        return np.arange(len(labels))
    if split == "val":
        raise BadInput(f"{source}: no split val; choose train or test")
    turn = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        turn[labels == label] = np.arange((labels == label).sum())
    test = turn % folders.EVERY == folders.EVERY - 1
    chosen = np.flatnonzero(test if split == "test" else ~test)
    if not len(chosen):
        raise BadInput(f"{source}: {len(labels)} samples give none for the {split} split, "
                       f"which takes every {folders.EVERY}th of a class; give arrays x_"
                       f"{split} and y_{split}")
    notes.add(source, f"states no split: every {folders.EVERY}th sample of a class is for testing, "
                      "the others are for training")
    return chosen[np.lexsort((labels[chosen], turn[chosen]))]


def load_npz(path: str | Path, split: str = "test", options: Options | None = None,
             notes: Notes | None = None) -> Images:
    """An .npz pack of images, never pickle; names as above."""
    pack = open_npz(path)
    return from_arrays(pack.names, pack.read, split, options or Options(), str(path),
                       notes or Notes())


def load_npy(path: Path, split: str, options: Options, notes: Notes) -> Images:
    """Images of an .npy file, with the labels of the .npy beside it, such as x.npy and y.npy."""
    for words in (*folders.SPLITS[split], ""):
        for x, y in _UNSPLIT:
            for form in ("{n}_{s}", "{s}_{n}", "{n}{s}") if words else ("{n}",):
                if path.stem.lower() == form.format(n=x, s=words):
                    beside = [one for one in folders.entries(path.parent)
                              if one.name.lower() == f"{form.format(n=y, s=words)}.npy"]
                    if beside:
                        return _pair(path, beside[0], split, options, notes)
    raise BadInput(f"{path}: images without labels; put them beside it, such as x_{split}"
                   f".npy and y_{split}.npy, or both into an .npz (spiketicket "
                   "classify needs no labels)")


def _pair(images: Path, labels: Path, split: str, options: Options, notes: Notes) -> Images:
    paths = {images.stem: images, labels.stem: labels}
    return from_arrays(paths, lambda names: {n: read_npy(paths[n]) for n in names if n in paths},
                       split, options, str(images), notes)


def folder_arrays(root: Path) -> dict[str, Path]:
    """The .npy files directly in a folder, by name."""
    return {path.stem: path for path in folders.entries(root)
            if path.suffix.lower() == ".npy" and path.is_file()}


def load_folder(root: Path, split: str, options: Options, notes: Notes) -> Images:
    """A folder of x_train.npy, y_train.npy, ..."""
    paths = folder_arrays(root)
    return from_arrays(paths, lambda names: {n: read_npy(paths[n]) for n in names if n in paths},
                       split, options, str(root), notes)
