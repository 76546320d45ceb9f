"""The shortest form of a write to the board: words as they are, expanded, or packed.

A map word of memory holds 8 spike masks of 4 bits (`docs/link.md`, "Packed writes"). Where every
active position has the same mask, one bit says all of it; where most positions are silent, it is
shorter to say which are not. `pack` and `unpack` are the two sides of that format in NumPy; the
board's is `hw.packing`.
"""

from __future__ import annotations

import numpy as np

from hw.config import TIMESTEPS_PER_GROUP
from hw.registers import GROUP_WORDS, REQUEST, Space

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
    return writes_of_each(space, address, np.asarray(words)[None], size=size, forms=forms)[0]


def writes_of_each(space: Space, address: int, words: np.ndarray, *, size: int = FrameSizes.input,
                   forms: tuple[str, ...] = FORMS) -> list[list[Write]]:
    """`writes` for each row of `words`, uint32 [inputs, n]."""
    if not 16 <= size <= MAX_PAYLOAD:
        raise ValueError(f"size {size} is outside 16..{MAX_PAYLOAD}")
    words = np.ascontiguousarray(words, np.uint32)
    if not words.shape[1]:
        return [[] for _ in words]
    masks = to_masks(words)
    common = common_mask(masks)
    count = words.shape[1]
    bits = None
    if "expand" in forms and count % 4 == 0:
        bits = np.packbits(masks.reshape(len(masks), -1) != 0, axis=1, bitorder="little")
        bits = bits.view("<u4").astype(np.uint32)
    if "packed" in forms:
        data, ends = _items(masks, common)
    found, start = [], 0
    for i, mask in enumerate(common.tolist()):
        cost, chosen = _cost(count, -(-count // size)), "plain"
        if bits is not None and mask and _cost(count // 4, -(-count // 4 // size)) < cost:
            cost, chosen = _cost(count // 4, -(-count // 4 // size)), "expand"
        if "packed" in forms:
            stop = int(ends[i, -1])
            packed = _packed(space, address, masks[i], mask, data[start:stop], ends[i] - start,
                             size)
            start = stop
            if _cost(sum(len(write.words) + 1 for write in packed), len(packed)) < cost:
                found.append(packed)
                continue
        found.append(
            _plain(space, address, words[i], size) if chosen == "plain" else
            [Write(space, address + 4 * write.address, write.words, mask)
             for write in _plain(space, 0, bits[i], size)])
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


def common_mask(masks: np.ndarray) -> np.ndarray:
    """The mask of all active positions of each input, uint8 [inputs] of masks uint8 [inputs, n, 8]:
    15 if none is active, 0 if they differ."""
    masks = masks.reshape(len(masks), -1)
    value = masks.max(1, initial=0)
    same = ((masks == 0) | (masks == value[:, None])).all(1)
    return np.where(same, np.where(value, value, 15), 0).astype(np.uint8)


def pack(masks: np.ndarray, mask: int = 0) -> bytes:
    """Bytes of a packed write of `masks` (uint8 [n, 8]).

    mask: the one of all active positions, 0: each has its own. The number of words is not among
    the bytes.
    """
    return _items(masks[None], np.array([mask]))[0].tobytes()


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


def _packed(space: Space, address: int, masks: np.ndarray, mask: int, data: np.ndarray,
            ends: np.ndarray, size: int) -> list[Write]:
    """Frames of whole groups, as many in each as fit. data, ends: as `_items` has them of all."""
    room = 4 * (size - 1)      # beside the number of words
    found, first = [], 0
    while first < len(ends):
        before = ends[first - 1] if first else 0
        # A run of silent groups that is cut takes two bytes more, half a byte of masks one.
        last = max(first + 1, int(np.searchsorted(ends, before + room - 3, "right")))
        part = masks[first * GROUP_WORDS:last * GROUP_WORDS]
        told = data.tobytes() if last - first == len(ends) else pack(part, mask)
        told += bytes(-len(told) % 4)
        found.append(Write(space, address + first * GROUP_WORDS,
                           np.frombuffer(told, "<u4").astype(np.uint32), mask, packed=len(part)))
        first = last
    return found


def _items(masks: np.ndarray, common: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of packed writes of masks uint8 [inputs, n, 8], one behind the other, uint8 [bytes],
    and how many there are up to the end of each group of words, int [inputs, groups].

    common: of each input the mask of its active positions, 0 if each has its own.
    """
    inputs, count = masks.shape[:2]
    groups = -(-count // GROUP_WORDS)
    whole = np.zeros((inputs, groups * GROUP_WORDS, POSITIONS), np.uint8)
    whole[:, :count] = masks
    is_active = whole.reshape(-1) != 0
    words = np.packbits(is_active, bitorder="little")
    present = np.packbits(words != 0, bitorder="little")
    heard, spoken = np.flatnonzero(present), np.flatnonzero(words)

    silent = present == 0
    begins, ends = silent.copy(), silent.copy()
    begins[1:] &= ~silent[:-1]
    ends[:-1] &= ~silent[1:]
    begins[::groups or 1] |= silent[::groups or 1]      # no run goes on from input to input
    ends[groups - 1::groups or 1] |= silent[groups - 1::groups or 1]
    starts = np.flatnonzero(begins)
    lengths = np.flatnonzero(ends) + 1 - starts
    parts = -(-lengths // _RUN)                         # a long run takes several counts
    run = np.repeat(starts, parts) + _RUN * _counted(parts)
    counts = np.minimum(_RUN, np.repeat(starts + lengths, parts) - run) - 1

    active = np.flatnonzero(is_active)
    of_input = active // max(1, groups * GROUP_WORDS * POSITIONS)
    own = common[of_input] == 0
    if not own.all():
        active, of_input = active[own], of_input[own]
    values = np.append(whole.reshape(-1)[active], 0)
    number = np.bincount(of_input, minlength=inputs)
    low = np.flatnonzero(_counted(number) & 1 == 0)     # the next value goes with it,
    high = values[low + 1]                              # if it is of the same input
    high[(np.cumsum(-(-number // 2)) - 1)[number % 2 == 1]] = 0
    word = active[low] // POSITIONS
    pairs = np.bincount(word, minlength=len(words))

    # Bytes of each group: presence, or a count of silent ones, then those of its words.
    size = np.zeros((len(present), 1 + GROUP_WORDS), np.int64)
    size[heard, 0], size[run, 0] = 1, 2
    size[:, 1:] = ((words != 0) + pairs).reshape(-1, GROUP_WORDS)
    stop = np.cumsum(size).reshape(size.shape)
    at, of_word = (stop - size)[:, 0], (stop - size)[:, 1:].reshape(-1)
    data = np.zeros(size.sum(), np.uint8)
    data[at[heard]] = present[heard]
    data[at[run] + 1] = counts
    data[of_word[spoken]] = words[spoken]
    data[(of_word + 1 - np.cumsum(pairs) + pairs)[word] + np.arange(len(word))] = (
        values[low] | high << 4)
    return data, stop[:, -1].reshape(inputs, groups)


def _counted(lengths: np.ndarray) -> np.ndarray:
    """0, 1, ... of each of the lengths, one behind the other."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
