"""Bits per surviving weight of the formats compared, all indices and pointers included."""

from __future__ import annotations

import numpy as np

from ..compile import rice
from ..integer.network import entropy_bits

POINTER_BITS = 11

HEADER_BITS = 18
"""Of a row, in the bundled tickets."""


def rice_bits(flat: np.ndarray, bits: int) -> int:
    """Bits of our stream for int8 weights [C_out, *]: Rice-coded gaps of the best k and values.

    Row headers (channel, bias, threshold) are left out: no format can do without them.
    """
    rows = [np.flatnonzero(row) for row in flat]
    width = rice.value_width(flat) if bits == 1 else bits
    return min(rice.code_bits(rows, flat.shape[1], width, k) for k in range(rice.MAX_K + 1))


def bitmap_bits(flat: np.ndarray, bits: int) -> int:
    """A bit per weight, then the values."""
    return flat.size + np.count_nonzero(flat) * bits


def csr_bits(flat: np.ndarray, bits: int) -> int:
    """Absolute column index per weight and a pointer per row."""
    index = max(1, (flat.shape[1] - 1).bit_length())
    return np.count_nonzero(flat) * (index + bits) + POINTER_BITS * len(flat)


def column_bits(flat: np.ndarray, bits: int, banks: int = 8) -> int:
    """Per column and bank (output channel mod banks): fixed-width gaps, and a pointer each."""
    total = 0
    for bank in range(banks):
        part = flat[bank::banks].T
        gaps = np.concatenate([np.diff(np.flatnonzero(row), prepend=-1) - 1 for row in part])
        sizes = [int((gaps // (1 << w) + 1).sum()) * (w + bits) for w in range(1, 9)]
        total += min(sizes) + POINTER_BITS * len(part)
    return total


FORMATS = {"ours (Rice)": rice_bits, "bitmap": bitmap_bits, "CSR": csr_bits,
           "banked columns": column_bits}

DENSITIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)


def sweep(bits: int, shape: tuple[int, int] = (128, 1152), seed: int = 0) -> list[dict]:
    """Bits per surviving weight by density and format, and the entropy bound; random masks."""
    rng = np.random.default_rng(seed)
    table = []
    for density in DENSITIES:
        mask = rng.random(shape) < density
        top = 1 if bits == 1 else (1 << bits - 1) - 1
        values = rng.integers(1, top + 1, shape) * rng.choice((-1, 1), shape)
        flat = (values * mask).astype(np.int8)
        survivors = np.count_nonzero(flat)
        row = {"density": density, "bound": entropy_bits(survivors / flat.size, bits)}
        for name, measure in FORMATS.items():
            row[name] = measure(flat, bits) / survivors
        row["ours / bound"] = row["ours (Rice)"] / row["bound"]
        row["rows' headers"] = len(flat) * HEADER_BITS / survivors
        table.append(row)
    return table
