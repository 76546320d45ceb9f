"""Arrays of pictures and labels as people keep them, made uint8 [N, C, H, W] and int64 [N].

A picture's value runs from 0 to 255. Floating point from 0 to 1 is scaled, whole numbers up to 255
are taken as they are, uint16 is cut to its upper 8 bits, each with a note; normalised values
(negative ones) and other ranges are refused, as nobody can know what they stand for. Channels are
found where only one axis can be theirs.
"""

from __future__ import annotations

import numpy as np

from ..errors import BadInput
from .notes import Notes

LAYOUTS = ("chw", "hwc")
_COLOURS = (1, 3, 4)
_CHUNK = 1 << 22
"""Values converted at a time."""


def pixels(array: np.ndarray, source: str, notes: Notes, layout: str = "") -> np.ndarray:
    """uint8 [N, C, H, W] of [N, H, W], [N, C, H, W] or [N, H, W, C]; frames of event counts, uint8
    [N, T, C, H, W], stay such.

    layout: "chw" or "hwc" where the shape can be read as either. Raises SpikeTicketError.
    """
    if array.dtype.names or array.dtype.kind not in "biuf":
        raise BadInput(f"{source}: {array.dtype} is no type of pixels; give uint8, or "
                       "floating point from 0 to 1")
    if not array.size:
        raise BadInput(f"{source}: {list(array.shape)} holds no pixel")
    if array.ndim == 2:
        raise BadInput(f"{source}: {list(array.shape)} is one row a picture{_side(array)}; "
                       "reshape it to [N, H, W] or [N, C, H, W] in the order it was "
                       "flattened")
    if array.ndim not in (3, 4, 5):
        raise BadInput(f"{source}: {list(array.shape)} is not [N, H, W], [N, C, H, W], "
                       "[N, H, W, C] or, for event counts, [N, T, C, H, W]")
    if array.ndim == 5:
        return _counts(array, source, notes)
    return _bytes(_channels_first(array, source, notes, layout), source, notes)


def _side(array: np.ndarray) -> str:
    for channels in (1, 3):
        side = round((array.shape[1] / channels) ** 0.5)
        if side > 1 and channels * side * side == array.shape[1]:
            return f" ({channels} x {side} x {side}?)"
    return ""


def _channels_first(array: np.ndarray, source: str, notes: Notes, layout: str) -> np.ndarray:
    if array.ndim == 3:
        return array[:, None]
    first, last = array.shape[1], array.shape[3]
    if not layout:
        found = [name for name, count in (("chw", first), ("hwc", last)) if count in _COLOURS]
        if len(found) != 1:
            raise BadInput(f"{source}: {list(array.shape)} may be [N, C, H, W] or "
                           "[N, H, W, C]; give layout=chw or layout=hwc")
        layout = found[0]
        if layout == "hwc":
            notes.add(source, "channels last (HWC); brought to the front")
    if layout == "hwc":
        array = array.transpose(0, 3, 1, 2)
    if array.shape[1] == 4:
        return _without_alpha(array, source, notes)
    return array


def _without_alpha(array: np.ndarray, source: str, notes: Notes) -> np.ndarray:
    if array.dtype != np.uint8:
        raise BadInput(f"{source}: 4 channels of {array.dtype}; a transparency can be "
                       "composed for uint8 only, give 3 channels")
    if (array[:, 3] == 255).all():
        return array[:, :3]
    notes.add(source, "transparent; composed on white")
    result = np.empty((len(array), 3, *array.shape[2:]), np.uint8)
    for i, one in enumerate(array):
        colour, alpha = one[:3].astype(np.uint32), one[3].astype(np.uint32)
        result[i] = (colour * alpha + 255 * (255 - alpha) + 127) // 255
    return result


def _bytes(array: np.ndarray, source: str, notes: Notes) -> np.ndarray:
    """Values 0 to 255 as uint8."""
    if array.dtype == np.uint8:
        if array.max() == 1:
            notes.add(source, "no pixel is above 1 of 255, almost black; scale it if it is 0 and 1")
        return array
    if array.dtype == bool:
        notes.add(source, "0 and 1 (bool); scaled to 0 and 255")
        return array.astype(np.uint8) * np.uint8(255)
    low, high = _range(array, source)
    if low < 0:
        raise BadInput(f"{source}: values from {low:.6g} to {high:.6g}: normalised pixels, "
                       "or no pixels; give them from 0 to 255, or from 0 to 1, before any "
                       "normalisation")
    if array.dtype.kind == "f" and high <= 1:
        notes.add(source, f"{array.dtype} from 0 to 1; scaled to 0..255")
        return _converted(array, 255)
    if array.dtype == np.uint16 and high > 255:
        notes.add(source, f"uint16 up to {high:g}; the upper 8 bits are taken")
        return (array >> 8).astype(np.uint8)
    if high > 255:
        raise BadInput(f"{source}: values up to {high:.6g} are more than 255; scale them "
                       "to 0..255, or to 0..1 in floating point")
    result = _converted(array, 1)
    if array.dtype.kind == "f":
        exact = all((part == back).all() for part, back in
                    zip(_chunks(array), _chunks(result), strict=True))
        notes.add(source, f"{array.dtype} from 0 to {high:g}, taken as 0..255"
                          f"{'' if exact else ' and rounded'}")
    return result


def _range(array: np.ndarray, source: str) -> tuple[float, float]:
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise BadInput(f"{source}: holds infinities or NaN; they are no pixels")
    return float(low), float(high)


def _chunks(array: np.ndarray) -> list[np.ndarray]:
    each = max(1, _CHUNK // max(1, array[:1].size))
    return [array[first:first + each] for first in range(0, len(array), each)]


def _converted(array: np.ndarray, factor: int) -> np.ndarray:
    """array * factor, rounded half up, a chunk at a time to bound memory."""
    result = np.empty(array.shape, np.uint8)
    for part, into in zip(_chunks(array), _chunks(result), strict=True):
        into[...] = part if part.dtype.kind in "iu" else np.floor(
            part.astype(np.float64) * factor + 0.5)
    return result


def _counts(array: np.ndarray, source: str, notes: Notes) -> np.ndarray:
    """Frames of event counts, whole numbers 0..255, as uint8."""
    if array.shape[4] in (1, 2, 3) and array.shape[2] not in (1, 2, 3):
        raise BadInput(f"{source}: {list(array.shape)}: frames with channels last; give "
                       "[N, T, C, H, W]")
    if array.dtype == np.uint8:
        return array
    low, high = _range(array, source)
    result = _converted(array, 1) if low >= 0 and high <= 255 else None
    if result is None or not all((part == back).all() for part, back in
                                 zip(_chunks(array), _chunks(result), strict=True)):
        raise BadInput(f"{source}: frames of {array.dtype} from {low:g} to {high:g}; event "
                       "counts are whole numbers from 0 to 255, before any normalisation")
    return result


def labels_of(values: np.ndarray, source: str, notes: Notes, classes: int = 0) -> np.ndarray:
    """int64 [N] of whole numbers [N] or [N, 1], or of one-hot rows [N, K].

    classes: how many there are, 0 if that is not known. Raises SpikeTicketError for fractions,
    negative ones, text, and for labels beyond the classes.
    """
    values = np.asarray(values)
    if values.dtype.kind not in "biuf":
        kind = "text" if values.dtype.kind in "US" else str(values.dtype)
        raise BadInput(f"{source}: labels are {kind}; give whole numbers from 0, and the "
                       "names as class_names")
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    elif values.ndim == 2:
        rows = (values == 1).sum(1) == 1
        if not (rows & ((values != 0).sum(1) == 1)).all():
            raise BadInput(f"{source}: labels {list(values.shape)} are not one number a "
                           "sample, nor rows of a single 1; give whole numbers [N]")
        notes.add(source, "labels are one-hot rows; taken as numbers")
        values = values.argmax(1)
    if values.ndim != 1:
        raise BadInput(f"{source}: labels of shape {list(values.shape)} are not [N]")
    if values.dtype.kind == "f":
        broken = ~(np.isfinite(values) & (values == np.rint(values)) & (np.abs(values) < 1 << 53))
        if broken.any():
            raise BadInput(f"{source}: label {values[np.argmax(broken)]:g} of sample "
                           f"{int(np.argmax(broken))} is not a whole number")
        notes.add(source, f"labels are {values.dtype}, all whole; taken as integers")
    top = classes - 1 if classes else np.iinfo(np.int32).max
    wrong = (values < 0) | (values > top)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise BadInput(f"{source}: label {values[at]} of sample {at} is outside 0.."
                       f"{top}{_numbering(values, classes)}")
    return values.astype(np.int64)


def _numbering(values: np.ndarray, classes: int) -> str:
    """What labels outside 0..classes - 1 hint at."""
    low, high = int(values.min()), int(values.max())
    if low < 0:
        return "; negative ones usually mark samples without a label: leave these out"
    if low and high - low < classes:
        return f"; they run from {low} to {high}: subtract {low} if they count from there"
    return f"; they run from {low} to {high}"
