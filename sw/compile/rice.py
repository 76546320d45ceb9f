"""The weight stream (docs/core.md): rows' headers, Rice-coded gaps between surviving weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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


def fold(value: int) -> int:
    """A signed integer as an unsigned one: 0, -1, 1, -2 ... become 0, 1, 2, 3 ..."""
    return 2 * value if value >= 0 else -2 * value - 1


def neuron_width(values: Iterable[int]) -> int:
    """`neuron_bits`: what every bias and threshold of a layer fits, at least 1."""
    return max((fold(int(value)).bit_length() for value in values), default=0) or 1


def channel_gaps(rows: Sequence[int]) -> list[int]:
    """How many channels lie between an engine's rows, and before the first."""
    return (np.diff(rows, prepend=-1) - 1).tolist()


def header_bits(gap: int, bias: int, threshold: int, channel_bits: int,
                neuron_bits: int) -> np.ndarray:
    """Header of a row, uint8 [channel_bits + 2 neuron_bits]. gap: see `channel_gaps`. Raises
    ValueError if a field does not fit."""
    fields = (("gap", channel_bits), ("bias", neuron_bits), ("threshold", neuron_bits))
    word = program.pack(fields, {
        "gap": gap, "bias": fold(int(bias)), "threshold": fold(int(threshold))})
    return np.array([word >> n & 1 for n in range(channel_bits + 2 * neuron_bits)], np.uint8)


def encode_row(row: np.ndarray, values: np.ndarray, total: int, width: int, k: int) -> np.ndarray:
    """Codes of one row as bits, uint8 [n].

    row: stream indices of the surviving weights, values: their weights. total: stream indices of
    the row.
    """
    gaps = np.diff(row, prepend=-1) - 1
    skips = gaps >> k
    lengths = skips + 1 + width + k
    rest = total - 1 - (int(row[-1]) if row.size else -1)
    bits = np.zeros(int(lengths.sum()) + -(-rest >> k) + 1, np.uint8)   # + the filler
    mark = np.cumsum(lengths) - lengths + skips
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
