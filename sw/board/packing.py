"""The shortest form of a write to the board: words as they are, expanded, or packed.

A map word of memory holds 8 spike masks of 4 bits (`docs/link.md`, "Packed writes"). Where every
active position has the same mask, one bit says all of it; where most positions are silent, it is
shorter to say which are not. `pack` and `unpack` are the two sides of that format in NumPy; the
board's is `hw.packing`.
"""

from __future__ import annotations

import numpy as np

from hw.config import TIMESTEPS_PER_GROUP
from hw.registers import GROUP_WORDS, Space

from .protocol import MAX_PAYLOAD, FrameSizes, Write

POSITIONS = 8
"""Spike masks in a word of memory."""

FORMS = ("plain", "expand", "packed")

_RUN = 256
"""Groups without an active position that two bytes can tell of."""


def writes(space: Space, address: int, words: np.ndarray, *, size: int = FrameSizes.input,
           forms: tuple[str, ...] = FORMS) -> list[Write]:
    """Writes of `words` (uint32 [n]) from `address` on, in the shortest of the forms.

    size: words of a frame's payload, at most. forms: which may be taken; an input that "expand"
    cannot tell goes "plain". Raises ValueError for a size that holds no group of words, or that no
    frame can carry.
    """
    if not 16 <= size <= MAX_PAYLOAD:
        raise ValueError(f"size {size} is outside 16..{MAX_PAYLOAD}")
    words = np.ascontiguousarray(words, np.uint32)
    masks = to_masks(words)
    mask = common_mask(masks)
    found = [_plain(space, address, words, size)]
    if "expand" in forms and mask and len(words) % 4 == 0:
        bits = np.packbits(masks != 0, bitorder="little").view("<u4").astype(np.uint32)
        found.append([Write(space, address + 4 * write.address, write.words, mask)
                      for write in _plain(space, 0, bits, size)])
    if "packed" in forms:
        found.append(_packed(space, address, masks, mask, size))
    return min(found, key=lambda some: sum(_cost(write) for write in some))


def to_masks(words: np.ndarray) -> np.ndarray:
    """Words of memory (uint32 [n]) as spike masks, uint8 [n, 8]."""
    return (words[:, None] >> np.arange(0, 32, TIMESTEPS_PER_GROUP, dtype=np.uint32)
            & 15).astype(np.uint8)


def to_words(masks: np.ndarray) -> np.ndarray:
    """Inverse of `to_masks`."""
    shifts = np.arange(0, 32, TIMESTEPS_PER_GROUP, dtype=np.uint32)
    return (masks.astype(np.uint32) << shifts).sum(1, dtype=np.uint32)


def common_mask(masks: np.ndarray) -> int:
    """The mask of all active positions: 15 if none is active, 0 if they differ."""
    value = int(masks.max(initial=0))
    return (value or 15) if ((masks == 0) | (masks == value)).all() else 0


def pack(masks: np.ndarray, mask: int = 0) -> bytes:
    """Bytes of a packed write of `masks` (uint8 [n, 8]).

    mask: the one of all active positions, 0: each has its own. The number of words is not among
    the bytes.
    """
    return _items(masks, mask)[0].tobytes()


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


def _cost(write: Write) -> int:
    # What a frame takes beside its payload, in words; stuffing is much the same for all forms.
    return write.frame_words + 1


def _plain(space: Space, address: int, words: np.ndarray, size: int) -> list[Write]:
    return [Write(space, address + start, words[start:start + size])
            for start in range(0, len(words), size)]


def _packed(space: Space, address: int, masks: np.ndarray, mask: int, size: int) -> list[Write]:
    """Frames of whole groups, as many in each as fit."""
    _, ends = _items(masks, mask)
    room = 4 * (size - 1)      # beside the number of words
    found, first = [], 0
    while first < len(ends):
        before = ends[first - 1] if first else 0
        # A run of silent groups that is cut takes two bytes more, half a byte of masks one.
        last = max(first + 1, int(np.searchsorted(ends, before + room - 3, "right")))
        part = masks[first * GROUP_WORDS:last * GROUP_WORDS]
        data = pack(part, mask)
        data += bytes(-len(data) % 4)
        found.append(Write(space, address + first * GROUP_WORDS,
                           np.frombuffer(data, "<u4").astype(np.uint32), mask, packed=len(part)))
        first = last
    return found


def _items(masks: np.ndarray, mask: int) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of a packed write, uint8 [bytes], and how many there are up to the end of each group of
    words, int [groups]."""
    active = masks != 0
    words = np.packbits(active, axis=1, bitorder="little")[:, 0]
    some = words != 0
    groups = -(-len(words) // GROUP_WORDS)
    padded = np.zeros(groups * GROUP_WORDS, bool)
    padded[:len(some)] = some
    present = np.packbits(padded, bitorder="little")

    # Every byte with its group and the place in it: 0 presence, 1 and 2 of word 0, and so on.
    silent = present == 0
    starts = np.flatnonzero(silent & ~np.concatenate([[False], silent[:-1]]))
    stops = np.flatnonzero(silent & ~np.concatenate([silent[1:], [False]])) + 1
    runs = [np.arange(a, b, _RUN) for a, b in zip(starts, stops, strict=True)]
    counts = [np.minimum(_RUN, b - run) - 1 for run, b in zip(runs, stops, strict=True)]
    run = np.concatenate([np.zeros(0, int), *runs])
    spoken = np.flatnonzero(some)
    kinds = 2 * GROUP_WORDS + 2
    parts = [
        (np.flatnonzero(~silent) * kinds, present[~silent]),
        (run * kinds, np.zeros(len(run), np.uint8)),
        (run * kinds + 1, np.concatenate([np.zeros(0, int), *counts])),
        (spoken // GROUP_WORDS * kinds + 1 + 2 * (spoken % GROUP_WORDS), words[spoken]),
    ]
    if not mask:
        own = masks[active]
        word = np.repeat(np.arange(len(masks)), active.sum(1))[::2]
        pairs = np.append(own, np.zeros(len(own) % 2, np.uint8)).reshape(-1, 2)
        parts.append((word // GROUP_WORDS * kinds + 2 + 2 * (word % GROUP_WORDS),
                      pairs[:, 0] | pairs[:, 1] << 4))
    keys = np.concatenate([key for key, _ in parts])
    data = np.concatenate([part.astype(np.uint8) for _, part in parts])
    order = np.argsort(keys, kind="stable")
    ends = np.searchsorted(keys[order], np.arange(1, groups + 1) * kinds)
    return data[order], ends
