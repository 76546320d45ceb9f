"""Inputs as a board's map words, and its answers as arrays.

Map words travel as bytes, least significant first: lane i of a word (the spike mask of one
position) is the low or high half of byte i // 2. See `docs/core.md` for the formats.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hw import program
from hw.config import TIMESTEPS_PER_GROUP

from ..errors import SpikeTicketError
from ..integer.gate import check_masks
from .image import Image, MapLayout
from .listing import read_program


def lanes_to_words(lanes: np.ndarray) -> np.ndarray:
    """Lanes uint8 [..., window] (4-bit masks) as map words, bytes uint8 [..., window / 2]."""
    return lanes[..., 0::2] | lanes[..., 1::2] << 4


def words_to_lanes(words: np.ndarray) -> np.ndarray:
    """Inverse of `lanes_to_words`."""
    lanes = np.empty((words.shape[0], 2 * words.shape[1]), np.uint8)
    lanes[:, 0::2] = words & 15
    lanes[:, 1::2] = words >> 4
    return lanes


def gate_input(image: Image, array: np.ndarray,
               mask: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """One image as `encode_input` takes it, and what `hw.registers.Space.GATE` must hold then.

    array: uint8 [C, H, W] for a static input, else [T, C, H, W]; a gate of mode "input" zeroes the
    patches that it leaves out. mask: tokens to keep, bool [N], for a gate of mode "host". The
    words, uint32 [n], are None where the core needs none. Raises SpikeTicketError.
    """
    _check_input(image, array)
    if image.gate is None:
        check_masks({}, mask, 1)
        return array, None
    masks = image.gate.check_masks(None if mask is None else np.asarray(mask)[None], 1)
    return image.gate.apply(array, None if masks is None else masks[0], image.static)


def encode_input(image: Image, arrays: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Inputs as map words to write: [(first address, bytes uint8 [..., n, window / 2])].

    arrays: uint8 [..., C, H, W] for a static input, else [..., T, C, H, W]; with a patch gate, as
    `gate_input` gives them.
    """
    _check_input(image, arrays)
    values = arrays if not image.static else np.broadcast_to(
        arrays[..., None, :, :, :], (*arrays.shape[:-3], image.timesteps, *image.input_shape))
    masks = to_masks(image.inputs[0], values)
    return [(layout.base, lanes_to_words(
        layout.lanes(masks[..., :layout.height, :layout.width]))) for layout in image.inputs]


def to_masks(layout: MapLayout, values: np.ndarray) -> np.ndarray:
    """Values uint8 [..., T, C, H, W] as the masks of a map, uint8 [..., copies, planes, C, H, W].
    """
    *batch, _, channels, height, width = values.shape
    masks = np.zeros((*batch, layout.copies, layout.planes, channels, height, width), np.uint8)
    for group, copy in enumerate(layout.copy_of_group):
        part = np.moveaxis(values, -4, 0)[group * TIMESTEPS_PER_GROUP:][:TIMESTEPS_PER_GROUP]
        for plane in range(layout.planes):
            masks[..., copy, plane, :, :, :] = (
                part[0] >> layout.bits_a_mask * plane & 15 if layout.bits_a_mask > 1 else
                sum((v >> plane & 1) << t for t, v in enumerate(part)))
    return masks


def to_values(layout: MapLayout, masks: np.ndarray, timesteps: int) -> np.ndarray:
    """Inverse of `to_masks`: uint8 [T, C, H, W]."""
    values = np.zeros((timesteps, *masks.shape[2:]), np.uint8)
    for t in range(timesteps):
        group, step = divmod(t, TIMESTEPS_PER_GROUP)
        for plane, mask in enumerate(masks[layout.copy_of_group[group]]):
            bits = mask if layout.bits_a_mask > 1 else mask >> step & 1
            values[t] |= bits << layout.bits_a_mask * plane
    return values


def _check_input(image: Image, array: np.ndarray) -> None:
    shape = image.input_shape if image.static else (image.timesteps, *image.input_shape)
    if array.dtype != np.uint8 or array.shape[-len(shape):] != shape:
        raise SpikeTicketError(f"input is {array.dtype} {list(array.shape)}; network "
                               f"{image.name!r} takes uint8 {list(shape)}")
    if array.size and int(array.max()) >> image.input_bits:
        raise SpikeTicketError(f"input value {array.max()} needs more than {image.input_bits} bits")


def decode_map(image: Image, words: np.ndarray, name: str) -> np.ndarray:
    """Read a map back: uint8 [T, C, H, W] (values for the input, spikes for the rest).

    words: the whole map memory, bytes uint8 [map_words, window / 2]. H and W are those stored
    (`image.maps[name]`); rows and columns that no consumer reads may be absent. Of a summand that
    is added to others (`MapLayout.onto`) it is their sum; `own_spikes` takes the others off.
    """
    layout = image.maps[name]
    masks = layout.masks(words_to_lanes(words[layout.base:layout.base + layout.words]))
    return to_values(layout, masks, image.timesteps)


def own_spikes(layout: MapLayout, values: np.ndarray,
               maps: Mapping[str, np.ndarray]) -> np.ndarray:
    """Spikes of a map itself from `decode_map`'s values uint8 [T, C, H, W], read as soon as its
    layer was done; maps: the spikes of those in `layout.onto`. What a wrong sum leaves is neither
    0 nor 1, or not the layer's spikes."""
    return values - sum((maps[name] for name in layout.onto), np.zeros_like(values))


def program_through(image: Image, layer: int) -> np.ndarray:
    """The program, stopping after this layer (index in `image.layers`); uint32 [n].

    For reading a map that later layers overwrite: run this instead, then `decode_map`.
    """
    words = image.program.copy()
    code = read_program(words, image.config)[layer]
    words[code.address:code.address + len(program.HEADER)] = program.pack_words(
        program.HEADER, code.header | {"last_layer": 1})
    return words


def decode_logits(image: Image, words: np.ndarray) -> np.ndarray:
    """Logits int64 [classes] from the map memory, bytes uint8 [map_words, window / 2]."""
    rows = words[image.results:image.results + image.classes]
    return logits_of(np.ascontiguousarray(rows[:, :4]).view("<u4")[:, 0])


def logits_of(words: np.ndarray) -> np.ndarray:
    """Logits int64 [...] of the first 32 bits of the result words, uint32 [...]."""
    return np.asarray(words, np.uint32).view(np.int32).astype(np.int64)
