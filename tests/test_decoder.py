"""Bit reader and row decoder in cocotb, with stalls; every weight at its tap and channel."""

from __future__ import annotations

from hw.config import PRESETS
from hw.decoder import BitReader, RowDecoder
from sim.runner import run_bench

LAYERS = 40
"""Random layers per stall mode: every value width with every k."""


def test_bit_reader():
    run_bench(BitReader(8), "sim.units.decoder.reader_bench", address_bits=8, seed=1)


def test_row_decoder():
    config = PRESETS["tiny"]
    run_bench(RowDecoder(config), "sim.units.decoder.bench", config=config.as_dict(), seed=1,
              layers=LAYERS)
