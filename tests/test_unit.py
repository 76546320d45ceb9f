"""Accumulate unit and its queue in cocotb, with stalls on both sides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hw.config import PRESETS
from hw.unit import AccumulateUnit
from sim.runner import run_bench

CONFIGS = {
    "a35t": PRESETS["a35tw"],
    # One sub-position a unit, the shortest queue, narrow accumulators that wrap.
    "narrow": replace(PRESETS["tiny"], units=16, window=16, acc_depth=2, acc_bits=12,
                      queue_depth=16),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_unit(name):
    config = CONFIGS[name]
    run_bench(AccumulateUnit(config), "sim.units.unit.bench", config=config.as_dict(), seed=1)
