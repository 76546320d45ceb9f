"""The bit reader of an engine: words ahead of the two that its window shows (`hw.decoder`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from ..jit import stepped

AHEAD, WINDOW, WORD = 4, 2, 32


class StreamReader(NamedTuple):
    """State, [engines] each: next word to fetch; words that arrive, are stored, are in the window;
    place of the next bit; whether to start anew, and where."""

    address: ndarray
    arriving: ndarray
    level: ndarray
    filled: ndarray
    word: ndarray
    bit: ndarray
    seek: ndarray
    seek_word: ndarray
    seek_bit: ndarray


def new_reader(starts: ndarray) -> StreamReader:
    """Readers that start at these words."""
    zeros = np.zeros((7, len(starts)), np.int64)
    return StreamReader(*zeros[:6], np.ones(len(starts), np.int64), starts.copy(), zeros[6])


@stepped
def reader_seeks(r, e, word, bit):
    """To start anew in the next cycle."""
    r.seek[e], r.seek_word[e], r.seek_bit[e] = 1, word, bit


@stepped
def reader_step(r, e, taken, hold, seeking):
    """One cycle. taken: bits. hold: no word is fetched. seeking: it starts anew."""
    if seeking:
        r.address[e] = r.word[e] = r.seek_word[e]
        r.bit[e] = r.seek_bit[e]
        r.filled[e] = r.level[e] = r.arriving[e] = 0
    else:
        fetch = int(r.level[e] + r.arriving[e] < AHEAD and not hold)
        end = r.bit[e] + taken
        crosses = int(end >= WORD)
        shift_in = int(r.level[e] > 0 and (r.filled[e] < WINDOW or crosses == 1))
        r.filled[e] += shift_in - crosses
        r.level[e] += r.arriving[e] - shift_in
        r.arriving[e] = fetch
        r.address[e] += fetch
        r.word[e] += crosses
        r.bit[e] = end - WORD * crosses
