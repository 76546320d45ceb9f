"""What every byte of every frame passes through, compiled: stuffing, and the bytes of packed
writes (`docs/link.md`). `sw.board.protocol` and `sw.board.packing` are the ways in."""

from __future__ import annotations

import numpy as np

from hw.registers import GROUP_WORDS

from ..core.jit import njit

_RUN = 256
"""Groups without an active position that two bytes can tell of."""


@njit
def stuff(data: np.ndarray) -> np.ndarray:
    """Consistent overhead byte stuffing of uint8 [n], without the final zero."""
    out = np.empty(len(data) + len(data) // 254 + 1, np.uint8)
    code, at = 0, 1
    for byte in data:
        if byte:
            out[at] = byte
            at += 1
        if not byte or at - code == 255:
            out[code] = at - code
            code = at
            at += 1
    out[code] = at - code
    return out[:at]


@njit
def unstuff(data: np.ndarray) -> tuple[np.ndarray, int]:
    """Inverse of `stuff`, and what is wrong: 0 nothing, 1 a block breaks off, 2 a zero in one."""
    out = np.empty(len(data), np.uint8)
    place, length = 0, 0
    while place < len(data):
        code = data[place]
        if code == 0:
            return out, 2
        if place + code > len(data):
            return out, 1
        for byte in data[place + 1:place + code]:
            if byte == 0:
                return out, 2
            out[length] = byte
            length += 1
        place += code
        if code != 255 and place < len(data):
            out[length] = 0
            length += 1
    return out[:length], 0


@njit
def common_mask(words: np.ndarray) -> int:
    """The mask of all active positions of words uint32 [n]: 15 if none is active, 0 if they differ.
    """
    found = 0
    for word in words:
        for position in range(0, 32, 4):
            mask = word >> position & 15
            if mask and mask != found:
                if found:
                    return 0
                found = mask
    return found if found else 15


@njit
def pack(words: np.ndarray, mask: int) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of a packed write of words uint32 [n], and how many there are up to the end of each
    group of words, int [groups]; mask: of all active positions, 0: each has its own."""
    count = len(words)
    groups = -(-count // GROUP_WORDS)
    data = np.empty(2 * groups + 5 * count, np.uint8)
    ends = np.empty(groups, np.int64)
    at, group = 0, 0
    half = -1       # the byte whose upper half is still free
    while group < groups:
        present = _present(words, group)
        data[at] = present
        at += 1
        if not present:
            last = group + 1
            while last < groups and last - group < _RUN and not _present(words, last):
                last += 1
            data[at] = last - group - 1
            at += 1
            ends[group:last] = at
            group = last
            continue
        for word in words[GROUP_WORDS * group:GROUP_WORDS * (group + 1)]:
            if not word:
                continue
            place, active = at, 0
            at += 1
            for position in range(8):
                value = word >> 4 * position & 15
                if not value:
                    continue
                active |= 1 << position
                if mask:
                    continue
                if half < 0:
                    half, data[at] = at, value
                    at += 1
                else:
                    data[half] |= value << 4
                    half = -1
            data[place] = active
        ends[group] = at
        group += 1
    return data[:at], ends


@njit
def _present(words: np.ndarray, group: int) -> int:
    """A bit for each word of a group that has an active position."""
    found = 0
    for n, word in enumerate(words[GROUP_WORDS * group:GROUP_WORDS * (group + 1)]):
        if word:
            found |= 1 << n
    return found
