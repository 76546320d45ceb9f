"""The weight stream's code: round trips at every width and density, and its size."""

from __future__ import annotations

import numpy as np
import pytest

from sw.compile import rice
from sw.integer.network import entropy_bits

CHANNEL_BITS, NEURON_BITS = 12, 24
HEADERS = [(0, 0, -1), (4095 - 3, -(1 << 17), (1 << 23) - 1), (0, 1, -(1 << 23)), (1, 5, 9)]
"""Channels left out before the row, bias, threshold."""


def decode(words: np.ndarray, rows: int, total: int, width: int, k: int):
    """Straightforward decoder: [(HEADERS, [(index, value)])]; checks the filler bit."""
    bits = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little").tolist()
    at = 0

    def take(n: int) -> int:
        nonlocal at
        at += n
        return sum(bit << i for i, bit in enumerate(bits[at - n:at]))

    def signed(folded: int) -> int:
        return ~(folded >> 1) if folded & 1 else folded >> 1

    result = []
    for _ in range(rows):
        header = take(CHANNEL_BITS), signed(take(NEURON_BITS)), signed(take(NEURON_BITS))
        index, weights = 0, []
        while index < total:
            if not take(1):
                index += 1 << k
                continue
            raw = take(width)
            value = (1 - 2 * raw) if width == 1 else raw - ((raw >> width - 1) << width)
            index += take(k)
            weights.append((index, value))
            index += 1
        assert take(1) == 0
        result.append((header, weights))
    assert not any(bits[at:]) and len(bits) - at < 32
    return result


@pytest.mark.parametrize("width", range(1, 9))
@pytest.mark.parametrize("density", [0.0, 0.01, 0.2, 1.0])
def test_round_trip(width, density):
    rng = np.random.default_rng(width)
    for k, total in ((0, 1), (0, 33), (1, 2), (3, 8), (4, 100), (6, 64), (12, 4096)):
        rows, values, blocks = [], [], []
        for header in HEADERS:
            row = np.flatnonzero(rng.random(total) < density)
            value = (rng.choice([-1, 1], row.size) if width == 1 else
                     rng.integers(-(1 << width - 1), 1 << width - 1, row.size))
            rows.append(row)
            values.append(value)
            blocks += [rice.header_bits(*header, CHANNEL_BITS, NEURON_BITS),
                       rice.encode_row(row, value, total, width, k)]
        size = sum(len(block) for block in blocks)
        assert size == 4 * (CHANNEL_BITS + 2 * NEURON_BITS) + rice.code_bits(rows, total, width, k)
        decoded = decode(rice.to_words(blocks), 4, total, width, k)
        assert [header for header, _ in decoded] == HEADERS
        for (_, weights), row, value in zip(decoded, rows, values, strict=True):
            assert weights == list(zip(row.tolist(), value.tolist(), strict=True))


def test_a_row_may_end_with_a_skip_past_its_end():
    bits = rice.encode_row(np.array([2]), np.array([1]), 9, 4, 3)
    # gap 2 < 8: code 1 + 4 + 3 bits; six indices left: one skip bit; one filler.
    assert len(bits) == 8 + 1 + 1


@pytest.mark.parametrize("values, width", [
    ([], 1), ([1], 1), ([-1, 1], 1), ([0], 1), ([2], 3), ([-2, 1], 2), ([3], 3), ([-4], 3),
    ([-8, 7], 4), ([8], 5), ([-128, 127], 8)])
def test_value_width(values, width):
    assert rice.value_width(np.array(values, np.int8)) == width


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("density", [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5])
def test_close_to_the_entropy_bound(density, width):
    """Issue aim: at most 1.25 x H(d)/d + b from 1 % to 50 % density; the code has 1.05."""
    rng = np.random.default_rng(1)
    rows = [np.flatnonzero(rng.random(1152) < density) for _ in range(128)]
    survivors = sum(row.size for row in rows)
    best = min(rice.code_bits(rows, 1152, width, k) for k in range(8))
    assert best / survivors <= 1.05 * entropy_bits(survivors / (1152 * 128), width)


def test_a_header_field_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match="bias"):
        rice.header_bits(0, 1 << 17, 0, CHANNEL_BITS, 18)


def test_headers_are_as_wide_as_needed():
    for width in range(1, 25):
        low, high = -(1 << width - 1), (1 << width - 1) - 1
        assert rice.neuron_width([low, high]) == rice.neuron_width([low]) == width
        assert rice.header_bits(0, low, high, 0, width).sum() == 2 * width - 1
        with pytest.raises(ValueError, match="threshold"):
            rice.header_bits(0, 0, high + 1, 0, width)
    assert rice.neuron_width([0, 0]) == rice.neuron_width([]) == 1
    assert rice.channel_gaps([0, 1, 4]) == [0, 0, 2] and rice.channel_gaps([3]) == [3]
