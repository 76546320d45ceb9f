"""Image data sets from local folders: IDX files and .npz packs. Nothing is downloaded.

IDX files (`train-images-idx3-ubyte`, plain or .gz) are found in torchvision's layout
(`ROOT/FashionMNIST/raw`), in `ROOT` itself, or in Debian's `/usr/share/datasets/fashion-mnist`.
An .npz pack holds `x_train y_train x_test y_test` (or some split of them), uint8, without pickle.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import SpikeTicketError

MAX_IMAGES = 1_000_000
MAX_BYTES = 1 << 30

FASHION_LABELS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt",
                  "Sneaker", "Bag", "Ankle boot")

# Folders below the root, in the order they are tried; the last is where Debian installs.
_LAYOUTS = {
    "fashion-mnist": ("FashionMNIST/raw", "fashion-mnist", "."),
    "mnist": ("MNIST/raw", "mnist", "."),
}
_DEBIAN = {"fashion-mnist": Path("/usr/share/datasets/fashion-mnist"),
           "mnist": Path("/usr/share/datasets/mnist")}
_LABELS = {"fashion-mnist": FASHION_LABELS, "mnist": tuple("0123456789")}
_SPLITS = {"train": "train", "test": "t10k"}


@dataclass(frozen=True, eq=False)
class Images:
    """images: uint8 [N, C, H, W]; labels: int64 [N]; names: class names, may be empty."""

    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...] = ()
    source: str = ""

    def __post_init__(self):
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise SpikeTicketError(f"{self.source}: images must be uint8 [N, C, H, W], not "
                                   f"{self.images.dtype} {list(self.images.shape)}")
        if self.labels.shape != (len(self.images),):
            raise SpikeTicketError(f"{self.source}: {len(self.images)} images but labels of shape "
                                   f"{list(self.labels.shape)}")

    def __len__(self) -> int:
        return len(self.images)

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
            data = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        raise SpikeTicketError(f"{path}: cannot be read ({error}); fetch it again") from error
    if len(data) != size:
        raise SpikeTicketError(f"{path}: header claims {size} bytes, the file holds "
                               f"{'more' if len(data) > size else len(data)}; fetch it again")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _find_idx(folder: Path, stem: str) -> Path | None:
    for name in (stem, stem + ".gz"):
        if (folder / name).is_file():
            return folder / name
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
    roots = [Path(root)] if root is not None else [_DEBIAN[name], Path("data")]
    folders = [base / sub for base in roots for sub in _LAYOUTS[name]]
    stem = _SPLITS[split]
    for folder in folders:
        images_path = _find_idx(folder, f"{stem}-images-idx3-ubyte")
        labels_path = _find_idx(folder, f"{stem}-labels-idx1-ubyte")
        if images_path and labels_path:
            break
    else:
        hint = (" On Debian: apt-get install dataset-fashion-mnist." if name == "fashion-mnist"
                else "")
        raise SpikeTicketError(
            f"data set {name}: no {stem}-images-idx3-ubyte(.gz) with "
            f"{stem}-labels-idx1-ubyte(.gz) in {', '.join(str(f) for f in folders)}; "
            f"put them there or give --data-root.{hint}")
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise SpikeTicketError(f"{images_path}: shape {images.shape} does not go with the "
                               f"{labels.shape} labels of {labels_path.name}")
    return _checked(images[:, None], labels, _LABELS[name], str(images_path))


def load_npz(path: str | Path, split: str = "test") -> Images:
    """Load an .npz pack: x_SPLIT and y_SPLIT, uint8 [N, H, W] or [N, C, H, W]; never pickle."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SpikeTicketError(f"{path}: more than 1 GiB; split the pack")
        # From memory, because numpy leaves a damaged file open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as pack:
            keys = f"x_{split}", f"y_{split}"
            missing = [key for key in keys if key not in pack.files]
            if missing:
                raise SpikeTicketError(f"{path}: no array {', '.join(missing)}; it holds "
                                       f"{', '.join(pack.files) or 'nothing'}")
            if sum(info.file_size for info in pack.zip.infolist()) > MAX_BYTES:
                raise SpikeTicketError(f"{path}: more than 1 GiB unpacked; split the pack")
            images, labels = pack[keys[0]], pack[keys[1]]
            names = (tuple(str(n) for n in pack["class_names"])
                     if "class_names" in pack.files else ())
    except SpikeTicketError:
        raise
    except FileNotFoundError as error:
        raise SpikeTicketError(f"{path}: no such file; give a data set name or an .npz") from error
    except Exception as error:  # numpy and zipfile raise a dozen types on damaged files
        raise SpikeTicketError(f"{path}: not a readable .npz pack ({error})") from error
    if images.ndim == 3:
        images = images[:, None]
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise SpikeTicketError(f"{path}: y_{split} must be integers [N], not {labels.dtype} "
                               f"{list(labels.shape)}")
    return _checked(images, labels, names, str(path))


def load(data: str, split: str = "test", root: str | Path | None = None) -> Images:
    """Load a data set by name, or an .npz pack by path."""
    if data in _LAYOUTS:
        return load_idx(data, split, root)
    if data.endswith(".npz"):
        return load_npz(data, split)
    raise SpikeTicketError(f"data set {data!r} is unknown; give {', '.join(_LAYOUTS)} "
                           "or the path of an .npz pack")


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
