"""IDX files, as MNIST and Fashion-MNIST are published: plain or gzip.

Found in torchvision's layout (`ROOT/FashionMNIST/raw`), in `ROOT` itself, or where Debian's
packages install them.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from ..errors import BadInput
from .archives import gunzip
from .arrays import MAX_BYTES, read_bytes
from .image_arrays import labels_of
from .notes import Notes
from .samples import Images

MAX_IMAGES = 1_000_000
FASHION_LABELS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt",
                  "Sneaker", "Bag", "Ankle boot")
LABELS = {"fashion-mnist": FASHION_LABELS, "mnist": tuple("0123456789")}
DEBIAN = {"fashion-mnist": Path("/usr/share/datasets/fashion-mnist"),
          "mnist": Path("/usr/share/datasets/mnist")}
_LAYOUTS = {"fashion-mnist": ("FashionMNIST/raw", "fashion-mnist", "."),
            "mnist": ("MNIST/raw", "mnist", ".")}
"""Folders below the root, in the order they are tried."""
_STEMS = {"train": "train", "test": "t10k"}
_REMEDY = {"fashion-mnist": "on Debian: apt-get install dataset-fashion-mnist; elsewhere: "
                            "torchvision.datasets.FashionMNIST(ROOT, download=True)",
           "mnist": "torchvision.datasets.MNIST(ROOT, download=True) fetches them"}


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes, plain or gzip: uint8 array of the stored shape."""
    data = read_bytes(path)
    if path.suffix == ".gz":
        try:
            head = gunzip(data, 20)
            shape = _shape(head, path)
            data = gunzip(data, 4 + 4 * len(shape) + int(np.prod(shape, dtype=object)) + 1)
        except (EOFError, zlib.error) as error:
            raise BadInput(f"{path}: cannot be read ({error}); fetch it again") from error
    shape = _shape(data, path)
    begin, size = 4 + 4 * len(shape), int(np.prod(shape, dtype=object))
    if len(data) != begin + size:
        held = "more" if len(data) > begin + size else len(data) - begin
        raise BadInput(f"{path}: header claims {size} bytes, the file holds {held}; fetch "
                       "it again")
    return np.frombuffer(data, np.uint8, offset=begin).reshape(shape)


def _shape(head: bytes, path: Path) -> tuple[int, ...]:
    if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 4:
        raise BadInput(f"{path}: not an IDX file of unsigned bytes (it begins "
                       f"{head[:4].hex() or 'nowhere'}); fetch it again")
    if len(head) < 4 + 4 * head[3]:
        raise BadInput(f"{path}: truncated in the header; fetch it again")
    shape = struct.unpack_from(f">{head[3]}I", head, 4)
    if shape[0] > MAX_IMAGES or int(np.prod(shape, dtype=object)) > MAX_BYTES:
        raise BadInput(f"{path}: header claims {shape}, more than {MAX_IMAGES} items or 1 "
                       "GiB; fetch it again")
    return shape


def files(name: str, split: str, roots: list[Path]) -> tuple[Path, Path] | None:
    """Files of images and labels in the first folder that has both."""
    for folder in (base / sub for base in roots for sub in _LAYOUTS[name]):
        images, labels = (_find(folder, f"{_STEMS[split]}-{part}-ubyte")
                          for part in ("images-idx3", "labels-idx1"))
        if images and labels:
            return images, labels
    return None


def _find(folder: Path, stem: str) -> Path | None:
    return next((folder / name for name in (stem, stem + ".gz") if (folder / name).is_file()), None)


def load(name: str, split: str, roots: list[Path], notes: Notes) -> Images:
    """`name` ("fashion-mnist" or "mnist") from the IDX files below the roots.

    Raises SpikeTicketError with the files that are expected where none are found.
    """
    found = files(name, split, roots)
    if found is None:
        stem = _STEMS[split]
        places = ", ".join(str(base / sub) for base in roots for sub in _LAYOUTS[name])
        raise BadInput(
            f"data set {name}: no {stem}-images-idx3-ubyte(.gz) with {stem}-labels-idx1-ubyte(.gz) "
            f"in {places}; put them there or name their folder in SPIKETICKET_DATA ("
            f"{_REMEDY[name]})")
    path, labels_path = found
    images, labels = read_idx(path), read_idx(labels_path)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise BadInput(f"{path}: shape {images.shape} does not go with the {labels.shape} "
                       f"labels of {labels_path.name}")
    if not len(images):
        raise BadInput(f"{path}: holds no image")
    names = LABELS[name]
    return Images(images[:, None], labels_of(labels, str(labels_path), notes, len(names)), names,
                  str(path), notes.lines())
