"""Image and event data sets from local folders and packs. Nothing is downloaded.

`load(name, split, root)` gives `Images`: uint8 [N, C, H, W], or for event data frames of counts,
uint8 [N, T, 2, H, W]. Without `root` it looks in the folder that the environment variable
SPIKETICKET_DATA names, in Debian's, then in ./data. docs/data.md lists every layout.

IDX files (`train-images-idx3-ubyte`, plain or .gz) are found in torchvision's layout
(`ROOT/FashionMNIST/raw`), in `ROOT` itself, or in Debian's `/usr/share/datasets/fashion-mnist`.
An .npz pack holds `x_train y_train x_test y_test` (or some split of them), uint8, without pickle.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import SpikeTicketError
from . import cifar, event_sets
from .arrays import names_of, read_npz, read_upto
from .data_options import Options, split_name
from .image_fit import fit_images

if TYPE_CHECKING:
    from ..integer.network import Network

MAX_IMAGES = 1_000_000
MAX_BYTES = 1 << 30

FASHION_LABELS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt",
                  "Sneaker", "Bag", "Ankle boot")

# Folders below the root, in the order they are tried; the last is where Debian installs.
_LAYOUTS = {
    "fashion-mnist": ("FashionMNIST/raw", "fashion-mnist", "."),
    "mnist": ("MNIST/raw", "mnist", "."),
}
_PACKS = {"fashion-mnist": "fashion*mnist*.npz", "mnist": "mnist*.npz", "cifar10": "cifar10*.npz",
          "cifar100": "cifar100*.npz"}
_DEBIAN = {"fashion-mnist": Path("/usr/share/datasets/fashion-mnist"),
           "mnist": Path("/usr/share/datasets/mnist")}
_LABELS = {"fashion-mnist": FASHION_LABELS, "mnist": tuple("0123456789")}
_SPLITS = {"train": "train", "test": "t10k"}
NAMES = (*_LAYOUTS, "cifar10", "cifar100", *event_sets.SETS)
"""Data sets that `load` knows by name."""
ENVIRONMENT = "SPIKETICKET_DATA"


@dataclass(frozen=True, eq=False)
class Images:
    """images: uint8 [N, C, H, W], or frames of event counts [N, T, C, H, W]; labels: int64 [N];
    names: class names, may be empty; source: file or folder."""

    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...] = ()
    source: str = ""

    def __post_init__(self):
        if self.images.ndim not in (4, 5) or self.images.dtype != np.uint8:
            raise SpikeTicketError(f"{self.source}: images must be uint8 [N, C, H, W] or "
                                   f"[N, T, C, H, W], not {self.images.dtype} "
                                   f"{list(self.images.shape)}")
        if min(self.images.shape[1:]) < 1:
            raise SpikeTicketError(f"{self.source}: images of shape {list(self.images.shape[1:])} "
                                   "hold nothing")
        if self.labels.shape != (len(self.images),):
            raise SpikeTicketError(f"{self.source}: {len(self.images)} images but labels of shape "
                                   f"{list(self.labels.shape)}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def static(self) -> bool:
        """Whether one array stands for every timestep (images, not frames of events)."""
        return self.images.ndim == 4

    def first(self, count: int) -> Images:
        """The first `count` images."""
        if not 1 <= count <= len(self):
            raise SpikeTicketError(f"{self.source}: {count} images asked for, it holds {len(self)}")
        return Images(self.images[:count], self.labels[:count], self.names, self.source)


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes, plain or gzip: uint8 array of the stored shape."""
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 4:
                raise SpikeTicketError(f"{path}: not an IDX file of unsigned bytes (it begins "
                                       f"{head.hex() or 'nowhere'}); fetch it again")
            raw = file.read(4 * head[3])
            if len(raw) < 4 * head[3]:
                raise SpikeTicketError(f"{path}: truncated in the header; fetch it again")
            shape = struct.unpack(f">{head[3]}I", raw)
            size = int(np.prod([int(n) for n in shape], dtype=object))
            if shape[0] > MAX_IMAGES or size > MAX_BYTES:
                raise SpikeTicketError(f"{path}: header claims {shape}, more than {MAX_IMAGES} "
                                       "items or 1 GiB; fetch it again")
            data = read_upto(file, size + 1)
    except (OSError, EOFError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        raise SpikeTicketError(f"{path}: cannot be read ({error}); fetch it again") from error
    if len(data) != size:
        raise SpikeTicketError(f"{path}: header claims {size} bytes, the file holds "
                               f"{'more' if len(data) > size else len(data)}; fetch it again")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _roots(name: str, root: str | Path | None) -> list[Path]:
    """Folders to look in, in order."""
    if root is not None:
        return [Path(root)]
    named = os.environ.get(ENVIRONMENT)
    return [Path(p) for p in (named, _DEBIAN.get(name), "data") if p]


def _find_idx(folder: Path, stem: str) -> Path | None:
    for name in (stem, stem + ".gz"):
        if (folder / name).is_file():
            return folder / name
    return None


def _idx_files(name: str, split: str, roots: list[Path]) -> tuple[Path, Path] | None:
    """Files of images and labels in the first folder that has both."""
    for folder in (base / sub for base in roots for sub in _LAYOUTS[name]):
        images, labels = (_find_idx(folder, f"{_SPLITS[split]}-{part}-ubyte")
                          for part in ("images-idx3", "labels-idx1"))
        if images and labels:
            return images, labels
    return None


def load_idx(name: str, split: str, root: str | Path | None = None) -> Images:
    """Load `name` ("fashion-mnist" or "mnist") from the IDX files below `root`.

    Without `root` the Debian folder is used, then ./data. Raises SpikeTicketError with the files
    that are expected where none are found.
    """
    if name not in _LAYOUTS:
        raise SpikeTicketError(f"data set {name!r} is unknown; known: {', '.join(_LAYOUTS)}")
    if split not in _SPLITS:
        raise SpikeTicketError(f"split {split!r} is not 'train' or 'test'")
    roots = _roots(name, root)
    stem = _SPLITS[split]
    found = _idx_files(name, split, roots)
    if found is None:
        hint = (" On Debian: apt-get install dataset-fashion-mnist." if name == "fashion-mnist"
                else "")
        folders = [base / sub for base in roots for sub in _LAYOUTS[name]]
        raise SpikeTicketError(
            f"data set {name}: no {stem}-images-idx3-ubyte(.gz) with "
            f"{stem}-labels-idx1-ubyte(.gz) in {', '.join(str(f) for f in folders)}; "
            f"put them there or give --data-root.{hint}")
    images_path, labels_path = found
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise SpikeTicketError(f"{images_path}: shape {images.shape} does not go with the "
                               f"{labels.shape} labels of {labels_path.name}")
    return _checked(images[:, None], labels, _LABELS[name], str(images_path))


def load_npz(path: str | Path, split: str = "test") -> Images:
    """Load an .npz pack: x_SPLIT and y_SPLIT, uint8 [N, H, W] or [N, C, H, W]; never pickle."""
    path = Path(path)
    keys = f"x_{split}", f"y_{split}"
    arrays = read_npz(path, (*keys, "class_names"))
    missing = [key for key in keys if key not in arrays]
    if missing:
        raise SpikeTicketError(f"{path}: no array {', '.join(missing)}; it holds "
                               f"{', '.join(names_of(path)) or 'nothing'}")
    images, labels = arrays[keys[0]], arrays[keys[1]]
    names = tuple(str(n) for n in arrays.get("class_names", np.zeros(0, "U1")).ravel())
    if images.ndim == 3:
        images = images[:, None]
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise SpikeTicketError(f"{path}: y_{split} must be integers [N], not {labels.dtype} "
                               f"{list(labels.shape)}")
    return _checked(images, labels, names, str(path))


def _load_pack(path: Path, split: str, options: Options) -> Images:
    """Any .npz pack: images, JPEG bytes or events, told apart by the names of its arrays."""
    held = set(names_of(path))
    if {"off", "dt"} <= held:
        images, labels, names = event_sets.load_pack(path, split, **options.of_events())
    elif {"train_jpeg", "test_jpeg"} & held:
        images, labels, names = cifar.read_jpeg_pack(path, split, options.limit)
    else:
        return load_npz(path, split)
    return _checked(images, labels, names, str(path))


def _load_cifar(name: str, split: str, root: str | Path | None, options: Options) -> Images:
    roots = _roots(name, root)
    paths = cifar.find(name, split, roots)
    if paths:
        images, labels = cifar.read_files(name, paths)
        return _checked(images, labels, cifar.class_names(name, paths), str(paths[0].parent))
    pack = _find_pack(name, roots)
    if pack is None:
        raise SpikeTicketError(
            f"data set {name}: no files of the {split} split; expected "
            f"{cifar.expected(name, split)}, or {_PACKS[name]}, below "
            f"{', '.join(map(str, roots))}; unpack the Python or binary version there, or give "
            "--data-root")
    return _load_pack(pack, split, options)


def _find_pack(name: str, roots: list[Path]) -> Path | None:
    return next((path for base in roots for path in sorted(base.glob(_PACKS[name]))), None)


def load(data: str, split: str = "test", root: str | Path | None = None,
         options: Options | None = None, **more) -> Images:
    """Load a data set by name, an .npz pack by path, or a folder of event files by path.

    options, or single ones as keywords: see `Options`. They may also stand behind the name, for
    commands: "n-mnist:size=32,frames_by=time"; those win. Raises SpikeTicketError with the expected
    layout where files are missing, and with file and reason where one is damaged.
    """
    data, written = split_name(data)
    more |= written
    if split not in _SPLITS:
        raise SpikeTicketError(f"split {split!r} is not 'train' or 'test'")
    try:
        options = Options(**more) if options is None else Options(**{**asdict(options), **more})
    except TypeError as error:
        raise SpikeTicketError(f"data options: {error}; known: "
                               f"{', '.join(Options.__dataclass_fields__)}") from error
    if data in event_sets.SETS:
        found = event_sets.load(data, split, _roots(data, root), **options.of_events())
        return _checked(*found)
    if data.endswith(".npz"):
        found = _load_pack(Path(data), split, options)
    elif data in _LAYOUTS:
        roots = _roots(data, root)
        pack = None if _idx_files(data, split, roots) else _find_pack(data, roots)
        found = _load_pack(pack, split, options) if pack else load_idx(data, split, root)
        found = replace(found, names=found.names or _LABELS[data])
    elif data in ("cifar10", "cifar100"):
        found = _load_cifar(data, split, root, options)
    elif Path(data).is_dir():
        images, labels, names = event_sets.load_folder(
            Path(data), split, columns=options.columns, time_unit=options.time_unit,
            **options.of_events())
        found = _checked(images, labels, names, data)
    else:
        raise SpikeTicketError(f"data set {data!r} is unknown; give {', '.join(NAMES)}, the path "
                               "of an .npz pack, or a folder of event files")
    if not found.static:
        return found
    if options.limit is not None:
        found = found.first(min(options.limit, len(found)))
    images = fit_images(found.images, options.width_height, options.fit, options.channels,
                        found.source)
    return Images(images, found.labels, found.names, found.source)


def for_network(network: Network, data: str, split: str = "test", root: str | Path | None = None,
                limit: int | None = None) -> Images:
    """Load `data` for an integer network: its T, and counts within its input's bits.

    Size and channels are converted only where options behind the name say so; raises
    SpikeTicketError where they are not the network's.
    """
    spec = network.input
    found = load(data, split, root, limit=limit, timesteps=network.timesteps,
                 max_count=(1 << spec.bits) - 1)
    shape = (spec.channels, spec.height, spec.width)
    if not spec.static:
        shape = (network.timesteps, *shape)
    if found.images.shape[1:] != shape:
        kind = "images" if found.static else "event frames"
        raise SpikeTicketError(
            f"{found.source}: {kind} of shape {list(found.images.shape[1:])}, but ticket "
            f"{network.name!r} takes {list(shape)}; choose --data to go with --ticket, such as "
            f"NAME:size={spec.width}x{spec.height}")
    return found


def _checked(images: np.ndarray, labels: np.ndarray, names: tuple[str, ...],
             source: str) -> Images:
    labels = labels.astype(np.int64)
    if len(labels) == 0:
        raise SpikeTicketError(f"{source}: holds no image")
    top = len(names) - 1 if names else MAX_IMAGES
    wrong = labels[(labels < 0) | (labels > top)]
    if len(wrong):
        raise SpikeTicketError(f"{source}: label {wrong[0]} is outside 0..{top}")
    return Images(np.ascontiguousarray(images), labels, names, source)
