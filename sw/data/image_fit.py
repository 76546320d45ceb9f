"""Images to the size and channels that a network wants: uint8 in, uint8 out, deterministic."""

from __future__ import annotations

import numpy as np

from ..errors import BadInput
from .events import fitted_size

MAX_BYTES = 4 << 30


def fit_images(images: np.ndarray, size: tuple[int, int] | None = None, fit: str = "pad-crop",
               channels: int | None = None, source: str = "images") -> np.ndarray:
    """uint8 [N, C, H, W] to `channels` x `size` (width, height); None leaves either as it is.

    "pad-crop", "pad" and "crop" centre the picture; of an odd difference the end is padded by more
    and the start cropped by more, as `sw.data.events.frames` does. "resize" is bilinear, with
    Pillow's widened filter where it shrinks. Grey is repeated to 3 channels, colour becomes luma.
    """
    count, held, height, width = images.shape
    new_width, new_height = fitted_size((width, height), size, fit)
    wanted = channels or held
    if count * wanted * new_width * new_height > MAX_BYTES:
        raise BadInput(f"{source}: {count} images of {new_width} x {new_height} exceed "
                       "4 GiB; give a smaller size, or a limit")
    if wanted != held:
        images = _convert(images, wanted, source)
    if (new_width, new_height) != (width, height):
        if fit == "resize":
            images = _resized(images, new_width, new_height)
        else:
            images = _centred(_centred(images, 2, new_height), 3, new_width)
    return np.ascontiguousarray(images)


def _convert(images: np.ndarray, channels: int, source: str) -> np.ndarray:
    held = images.shape[1]
    if {channels, held} != {1, 3}:
        raise BadInput(f"{source}: {held} channels cannot become {channels}; 1 and 3 can")
    if channels == 3:
        return np.repeat(images, 3, axis=1)
    red, green, blue = (images[:, i].astype(np.uint32) for i in range(3))
    return ((299 * red + 587 * green + 114 * blue + 500) // 1000)[:, None].astype(np.uint8)


def _centred(images: np.ndarray, axis: int, new: int) -> np.ndarray:
    old = images.shape[axis]
    before = (new - old) // 2  # floor: negative where cropped
    if new < old:
        return images.take(range(-before, -before + new), axis)
    edges = [(0, 0)] * images.ndim
    edges[axis] = (before, new - old - before)
    return np.pad(images, edges)


def _resized(images: np.ndarray, width: int, height: int) -> np.ndarray:
    from PIL import Image
    flat = images.reshape(-1, *images.shape[2:])
    result = np.empty((len(flat), height, width), np.uint8)
    for i, plane in enumerate(flat):
        scaled = Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR)
        result[i] = np.asarray(scaled)
    return result.reshape(*images.shape[:2], height, width)
