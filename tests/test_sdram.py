"""SDR SDRAM: controller, pads and chip at the pins; what a wrong controller breaks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hw.config import PRESETS
from sim.runner import run_bench
from sim.sdram import VERILOG, SimulatedSdram

CONFIG = replace(PRESETS["tinyd"], sdram=True, clock_hz=80_000_000)


def bench(memory: SimulatedSdram, config=CONFIG, seed=1):
    run_bench(memory, "sim.units.sdram.bench", cells=VERILOG, config=config.as_dict(), seed=seed)


@pytest.mark.parametrize("megahertz", [80, 100, 48])
def test_controller(megahertz):
    config = replace(CONFIG, clock_hz=megahertz * 1_000_000)
    bench(SimulatedSdram(config), config, seed=megahertz)
