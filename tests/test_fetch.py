"""Fetch in cocotb: every lane of every map word in the right unit's queue, or dropped."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hw.config import PRESETS
from hw.fetch import Fetch
from sim.runner import run_bench

CONFIGS = {
    "tiny": (PRESETS["tiny"], 4),
    "a35t": (replace(PRESETS["a35tw"], map_words=512), 2),
    "wide": (replace(PRESETS["a35tw"], window=64, map_words=256), 1),
    # Every lane of a word belongs to another unit.
    "flat": (replace(PRESETS["tiny"], units=16, acc_depth=4), 2),
}
"""Configuration and number of random layers per stall mode."""


@pytest.mark.parametrize("name", CONFIGS)
def test_fetch(name):
    config, layers = CONFIGS[name]
    run_bench(Fetch(config), "sim.units.fetch.bench", config=config.as_dict(), seed=1,
              layers=layers, weights=60)
