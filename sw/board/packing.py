"""The shortest form of a write to the board: words as they are, expanded, or packed.

A map word of memory holds 8 spike masks of 4 bits (`docs/link.md`, "Packed writes"). Where every
active position has the same mask, one bit says all of it; where most positions are silent, it is
shorter to say which are not. `pack` and `unpack` are the two sides of that format here, the
board's is `hw.packing`.
"""

from __future__ import annotations

import numpy as np

from hw.config import TIMESTEPS_PER_GROUP
from hw.registers import GROUP_WORDS, REQUEST, Space

from . import byte_kernels
from .protocol import MAX_PAYLOAD, FrameSizes, Write

POSITIONS = 8
"""Spike masks in a word of memory."""

FORMS = ("plain", "expand", "packed")


def writes(space: Space, address: int, words: np.ndarray, *, size: int = FrameSizes.input,
           forms: tuple[str, ...] = FORMS) -> list[Write]:
    """Writes of `words` (uint32 [n]) from `address` on, in the shortest of the forms.

    size: words of a frame's payload, at most. forms: which may be taken; an input that "expand"
    cannot tell goes "plain". Raises ValueError for a size that holds no group of words, or that no
    frame can carry.
    """
    return writes_of_each(space, address, np.asarray(words)[None], size=size, forms=forms)[0]


def writes_of_each(space: Space, address: int, words: np.ndarray, *, size: int = FrameSizes.input,
                   forms: tuple[str, ...] = FORMS) -> list[list[Write]]:
    """`writes` for each row of `words`, uint32 [inputs, n]."""
    if not 16 <= size <= MAX_PAYLOAD:
        raise ValueError(f"size {size} is outside 16..{MAX_PAYLOAD}")
    words = np.ascontiguousarray(words, np.uint32)
    if not words.shape[1]:
        return [[] for _ in words]
    return [_shortest(space, address, row, size, forms) for row in words]


def _shortest(space: Space, address: int, words: np.ndarray, size: int,
              forms: tuple[str, ...]) -> list[Write]:
    mask = byte_kernels.common_mask(words)
    found = _plain(space, address, words, size)
    cost = _cost(len(words), len(found))
    if "expand" in forms and mask and len(words) % 4 == 0 and _cost(
            len(words) // 4, -(-len(words) // 4 // size)) < cost:
        bits = np.packbits(to_masks(words) != 0, bitorder="little").view("<u4")
        found = [Write(space, address + 4 * write.address, write.words, mask)
                 for write in _plain(space, 0, bits.astype(np.uint32), size)]
        cost = _cost(len(bits), len(found))
    if "packed" in forms:
        packed = _packed(space, address, words, mask, size)
        if _cost(sum(len(write.words) + 1 for write in packed), len(packed)) < cost:
            return packed
    return found


def to_masks(words: np.ndarray) -> np.ndarray:
    """Words of memory (uint32 [..., n]) as spike masks, uint8 [..., n, 8]."""
    both = np.ascontiguousarray(words, "<u4").view(np.uint8)
    masks = np.stack([both & 15, both >> 4], -1)
    return masks.reshape(*words.shape, POSITIONS)


def to_words(masks: np.ndarray) -> np.ndarray:
    """Inverse of `to_masks`."""
    shifts = np.arange(0, 32, TIMESTEPS_PER_GROUP, dtype=np.uint32)
    return (masks.astype(np.uint32) << shifts).sum(1, dtype=np.uint32)


def pack(words: np.ndarray, mask: int = 0) -> bytes:
    """Bytes of a packed write of `words` (uint32 [n]).

    mask: the one of all active positions, 0: each has its own. The number of words is not among
    the bytes.
    """
    return byte_kernels.pack(words, mask)[0].tobytes()


def unpack(data: bytes, count: int, mask: int = 0) -> np.ndarray:
    """Inverse of `pack` for any bytes, as the board does it: masks uint8 [count, 8].

    Bytes that are missing are zeros, bytes behind the last word are ignored.
    """
    masks = np.zeros((count, POSITIONS), np.uint8)
    place, rest = 0, None      # rest: half a byte that is not used yet

    def byte() -> int:
        nonlocal place
        place += 1
        return data[place - 1] if place <= len(data) else 0

    word = 0
    while word < count:
        present = byte()
        if not present:
            word += GROUP_WORDS * (byte() + 1)
            continue
        for index in range(GROUP_WORDS):
            if word + index >= count:
                break
            active = byte() if present >> index & 1 else 0
            for position in range(POSITIONS):
                if not active >> position & 1:
                    continue
                if mask:
                    value = mask
                elif rest is None:
                    both = byte()
                    value, rest = both & 15, both >> 4
                else:
                    value, rest = rest, None
                masks[word + index, position] = value
        word += GROUP_WORDS
    return masks


def _cost(words: int, frames: int) -> int:
    # What a frame takes beside its payload, in words; stuffing is much the same for all forms.
    return words + frames * (len(REQUEST) + 2)


def _plain(space: Space, address: int, words: np.ndarray, size: int) -> list[Write]:
    return [Write(space, address + start, words[start:start + size])
            for start in range(0, len(words), size)]


def _packed(space: Space, address: int, words: np.ndarray, mask: int, size: int) -> list[Write]:
    """Frames of whole groups, as many in each as fit."""
    data, ends = byte_kernels.pack(words, mask)
    room = 4 * (size - 1)      # beside the number of words
    found, first = [], 0
    while first < len(ends):
        before = ends[first - 1] if first else 0
        # A run of silent groups that is cut takes two bytes more, half a byte of masks one.
        last = max(first + 1, int(np.searchsorted(ends, before + room - 3, "right")))
        part = words[first * GROUP_WORDS:last * GROUP_WORDS]
        told = data.tobytes() if last - first == len(ends) else pack(part, mask)
        told += bytes(-len(told) % 4)
        found.append(Write(space, address + first * GROUP_WORDS,
                           np.frombuffer(told, "<u4").astype(np.uint32), mask, packed=len(part)))
        first = last
    return found
