"""Many pictures of any size made one array; folders of class folders of pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..errors import BadInput
from . import folders
from .data_options import Options
from .image_arrays import labels_of
from .image_fit import MAX_BYTES, fit_images
from .notes import Notes
from .pictures import SUFFIXES, read_picture
from .samples import Images

Reader = Callable[[], np.ndarray]
"""Gives the pixels of one picture, uint8 [C, H, W]."""


def assemble(readers: Sequence[Reader], where: Sequence[object], options: Options,
             notes: Notes, source: str) -> np.ndarray:
    """uint8 [N, C, H, W] of pictures, each fitted to the size that `options` say.

    where: names the pictures in messages. Grey ones among colour ones are repeated to 3 channels,
    with a note. Raises SpikeTicketError where sizes differ and none is given.
    """
    result: np.ndarray | None = None
    for i, read in enumerate(tqdm(readers, desc=f"{source} pictures", unit="img", leave=False,
                                  mininterval=1.0, disable=None)):
        one = read()
        size = options.width_height
        say_what_is_lost(one, options, where[i], notes)
        one = fit_images(one[None], size, options.fit, options.channels, str(where[i]))[0]
        if result is None:
            result = _room(len(readers), one, source)
        if one.shape[1:] != result.shape[2:]:
            raise BadInput(
                f"{where[i]}: {one.shape[2]} x {one.shape[1]}, but {where[0]} is "
                f"{result.shape[3]} x {result.shape[2]}; give all one size, such as "
                f"{source}:size={result.shape[3]}x{result.shape[2]},fit=resize")
        if one.shape[0] > result.shape[1]:
            notes.add(source, "grey and colour pictures; grey is repeated to 3 channels "
                              "(channels=1 makes all grey)")
            whole = _room(len(readers), one, source)
            whole[:i] = result[:i]
            result = whole
        elif one.shape[0] < result.shape[1]:
            notes.add(source, "grey and colour pictures; grey is repeated to 3 channels "
                              "(channels=1 makes all grey)")
        result[i] = one
    if result is None:
        raise BadInput(f"{source}: holds no picture")
    return result


def _room(count: int, one: np.ndarray, source: str) -> np.ndarray:
    if count * one.size > MAX_BYTES:
        raise BadInput(f"{source}: {count:,} pictures of {one.shape[2]} x {one.shape[1]} "
                       "exceed 4 GiB; give a smaller size, or a limit")
    return np.empty((count, *one.shape), np.uint8)


def say_what_is_lost(one: np.ndarray, options: Options, where: object, notes: Notes) -> None:
    """Note if fitting stretches a picture [C, H, W] or drops most of it."""
    size, fit = options.width_height, options.fit
    if size is None:
        return
    height, width = one.shape[1:]
    if fit == "resize" and width * size[1] != height * size[0]:
        notes.add(where, f"not in the proportion of {size[0]} x {size[1]}; stretched")
    kept = min(width, size[0]) * min(height, size[1])
    if fit != "resize" and 2 * kept < width * height:
        notes.add(where, f"cropped to its middle {size[0]} x {size[1]}, less than half of it; "
                         "fit=resize scales it")


def load_folder(root: Path, split: str, options: Options, notes: Notes) -> Images:
    """Pictures of ROOT/{train,test,val}/CLASS or ROOT/CLASS; see `sw.data.folders`."""
    found = folders.find(root, split, SUFFIXES, notes)
    files = found.files[:options.limit]
    paths = [path for _, path in files]
    images = assemble([partial(read_picture, path, notes) for path in paths], paths, options, notes,
                      str(root))
    labels = labels_of(np.array([label for label, _ in files]), found.source, notes,
                       len(found.names))
    return Images(images, labels, found.names, found.source, notes.lines())
