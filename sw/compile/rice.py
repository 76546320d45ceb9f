"""The weight stream's code: Rice-coded gaps between surviving weights (docs/core.md)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hw import program

MAX_K = 12


def value_width(weights: np.ndarray) -> int:
    """Fewest bits that hold all weights: 1 for -1 and +1, else two's complement."""
    if not weights.size or np.abs(weights.astype(np.int64)).max() <= 1:
        return 1
    low, high = int(weights.min()), int(weights.max())
    return max(2, (max(high, -low - 1)).bit_length() + 1)


def indices(weights: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Stream indices of a row's surviving weights, increasing; int64.

    weights: int8, the row's weights tap by tap (tap t has channels[t] of them).
    starts: stream index of each of them.
    """
    return starts[weights != 0]


def code_bits(rows: Sequence[np.ndarray], total: int, width: int, k: int) -> int:
    """Bits of the codes of all rows (headers not included); rows hold stream indices.

    Every row ends with a filler bit, because the decoder reads one code ahead.
    """
    bits = len(rows)
    for row in rows:
        gaps = np.diff(row, prepend=-1) - 1
        rest = total - 1 - (int(row[-1]) if row.size else -1)
        bits += int((gaps >> k).sum()) + row.size * (1 + width + k) + -(-rest >> k)
    return bits


def header_bits(header: dict[str, int]) -> np.ndarray:
    """`hw.program.ROW_HEADER` as bits, uint8 [n]. Raises ValueError if a field does not fit."""
    word = program.pack(program.ROW_HEADER, header)
    return np.array([word >> n & 1 for n in range(program.row_header_bits())], np.uint8)


def encode_row(header: dict[str, int], row: np.ndarray, values: np.ndarray, total: int,
               width: int, k: int) -> np.ndarray:
    """One row of the stream as bits, uint8 [n].

    header: fields of `hw.program.ROW_HEADER`. row: stream indices of the surviving weights,
    values: their weights. total: stream indices of the row. Raises ValueError if a header field
    does not fit.
    """
    gaps = np.diff(row, prepend=-1) - 1
    skips = gaps >> k
    lengths = skips + 1 + width + k
    rest = total - 1 - (int(row[-1]) if row.size else -1)
    head = program.row_header_bits()
    bits = np.zeros(head + int(lengths.sum()) + -(-rest >> k) + 1, np.uint8)  # + the filler
    bits[:head] = header_bits(header)
    mark = head + np.cumsum(lengths) - lengths + skips
    bits[mark] = 1
    stored = (values < 0).astype(np.int64) if width == 1 else values.astype(np.int64)
    for n in range(width):
        bits[mark + 1 + n] = stored >> n & 1
    for n in range(k):
        bits[mark + 1 + width + n] = gaps >> n & 1
    return bits


def to_words(bits: Sequence[np.ndarray]) -> np.ndarray:
    """Bits of consecutive rows as 32-bit words, the last one filled with zeros; uint32 [n]."""
    stream = np.concatenate([np.zeros(0, np.uint8), *bits])
    stream = np.pad(stream, (0, -len(stream) % 32))
    return np.packbits(stream, bitorder="little").view("<u4").astype(np.uint32)
