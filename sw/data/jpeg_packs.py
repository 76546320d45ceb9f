"""Packs of JPEG files (`.npz`): all pictures of a split in one array of bytes, with offsets."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import BadInput, SpikeTicketError
from .arrays import read_npz
from .idx import MAX_IMAGES

MAX_PACK_BYTES = 4 << 30
"""Pixels that a pack may unpack to."""


def read_jpeg_pack(path: str | Path, split: str, limit: int | None = None,
                   ) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Images, labels and class names of a pack of JPEG bytes.

    Image i of the split is `SPLIT_jpeg[SPLIT_off[i]:SPLIT_off[i + 1]]`; all have one size.
    """
    path = Path(path)
    keys = f"{split}_jpeg", f"{split}_off", f"{split}_y"
    arrays = read_npz(path, (*keys, "class_names"))
    missing = [key for key in keys if key not in arrays]
    if missing:
        raise BadInput(f"{path}: no array {', '.join(missing)}; a JPEG pack holds "
                       f"{', '.join(keys)}")
    data, off, labels = (arrays[key] for key in keys)
    if data.dtype != np.uint8 or any(a.ndim != 1 or a.dtype.kind not in "iu"
                                     for a in (data, off, labels)):
        raise BadInput(f"{path}: {keys[0]} must be uint8 [bytes], {keys[1]} and {keys[2]} "
                       "integers [N + 1] and [N]")
    off = off.astype(np.int64)
    if (len(off) != len(labels) + 1 or not 0 < len(labels) <= MAX_IMAGES or off[0] != 0
            or off[-1] != len(data) or (np.diff(off) < 0).any()):
        raise BadInput(f"{path}: {len(off)} offsets do not rise from 0 to the {len(data)} "
                       f"bytes of {len(labels)} images")
    count = len(labels) if limit is None else min(limit, len(labels))
    first = _decode(data[off[0]:off[1]].tobytes(), path, 0, None)
    if count * first.size > MAX_PACK_BYTES:
        raise BadInput(f"{path}: {count} images of {first.shape[2]} x {first.shape[1]} "
                       "exceed 4 GiB; give a limit")
    images = np.empty((count, *first.shape), np.uint8)
    for i in tqdm(range(count), desc=f"{path.name} {split}", unit="img", unit_scale=True,
                  mininterval=1.0, leave=False, disable=None):
        images[i] = _decode(data[off[i]:off[i + 1]].tobytes(), path, i, first.shape)
    names = tuple(str(n) for n in arrays.get("class_names", np.zeros(0, "U1")).ravel())
    return images, labels[:count].astype(np.int64), names


def _decode(data: bytes, path: Path, index: int, shape: tuple | None) -> np.ndarray:
    """One JPEG as uint8 [3, H, W]; the size is checked before the pixels are decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            width, height = image.size
            if width > 1024 or height > 1024 or (shape and (3, height, width) != shape):
                other = f"{shape[2]} x {shape[1]} as the first" if shape else "up to 1024 x 1024"
                raise BadInput(f"{path}: image {index} is {width} x {height}, not {other}")
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except SpikeTicketError:
        raise
    except Exception as error:  # Pillow's decoders raise many types
        raise BadInput(f"{path}: image {index} is no readable JPEG ({type(error).__name__})"
                       ) from error
