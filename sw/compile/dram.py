"""The second tier: which layers' weights stream from DRAM, and the blocks that they stream in."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from enum import Enum

import numpy as np

from hw.config import STREAM_BLOCK, STREAM_WORDS, WORD_BITS, CoreConfig

from .fit import LayoutError


class Tier(Enum):
    """What may stream: nothing, what does not fit on chip, or all weights (for tests)."""

    ON_CHIP = 0
    REST_STREAMS = 1
    ALL_STREAM = 2


READ_AHEAD = 2
"""Words that an engine must have behind the last bit it takes (`hw.decoder.BitReader`)."""


def ring_bits(config: CoreConfig) -> int:
    """Bits of the longest row that can stream: all of it stays in the ring until its last pass,
    wherever in a word it begins, and a block may be short of room."""
    return WORD_BITS * (config.ring_words - STREAM_WORDS + 1 - READ_AHEAD)


def blocks(words: np.ndarray, engine: int, config: CoreConfig) -> np.ndarray:
    """An engine's stream as it lies in DRAM, uint32 [n * STREAM_BLOCK]: after every STREAM_WORDS
    words their check, `zlib.crc32` begun with the block's number, inverted in the last block.

    words: uint32 [n], the rows of all streamed layers.
    """
    count = -(-(len(words) + READ_AHEAD) // STREAM_WORDS)
    made = np.zeros((count, STREAM_BLOCK), np.uint32)
    padded = np.zeros(count * STREAM_WORDS, np.uint32)
    padded[:len(words)] = words
    made[:, :-1] = padded.reshape(count, STREAM_WORDS)
    first = engine * config.stream_stride // STREAM_BLOCK
    for n, block in enumerate(made):
        block[-1] = zlib.crc32(block[:-1].astype("<u4").tobytes(), first + n)
    made[-1, -1] ^= 0xFFFFFFFF
    return made.ravel()


def stream_words(stored: np.ndarray) -> np.ndarray:
    """The words of an engine's stream without the checks."""
    return stored.reshape(-1, STREAM_BLOCK)[:, :-1].ravel()


def choose_streamed(names: Sequence[str], words: np.ndarray, rows: Sequence[int],
                    cycles: Sequence[float], free: np.ndarray,
                    config: CoreConfig) -> frozenset[int]:
    """Steps whose weights stream.

    Those that would ask most of the DRAM in a cycle of theirs stay on chip, as far as they fit
    beside the rings: what streams should come while others compute. names: of the steps' layers.
    words: of each step and engine, int [steps, engines]. rows: bits of the longest row of a step.
    cycles: estimated, of each step. free: words of each pair's memory for what stays. Raises
    LayoutError for a row that neither memory holds.
    """
    free = free.copy()
    pairs = np.stack([words[:, 2 * pair:2 * pair + 2].sum(1) for pair in range(config.pairs)], 1)
    too_long = [bits > ring_bits(config) for bits in rows]
    streamed = set()
    for n in sorted(range(len(names)), key=lambda n: (
            not too_long[n], -words[n].sum() / max(1.0, cycles[n]), n)):
        if (pairs[n] <= free).all():
            free -= pairs[n]
        elif too_long[n]:
            raise LayoutError(
                names[n], f"it is too large to stay on chip, and to stream from DRAM a channel's "
                f"weights may take {ring_bits(config)} bits (ring_words {config.ring_words}), not "
                f"{rows[n]}; prune it further, or use a core with larger rings")
        else:
            streamed.add(n)
    return frozenset(streamed)
