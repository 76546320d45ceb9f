"""DDR3: the buffer before LiteDRAM's controller, and the controller itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hw.config import PRESETS
from hw.ddr3_control import LATENCY
from sim.ddr3 import VERILOG, SimulatedDdr3, litedram_verilog
from sim.runner import run_bench

CONFIG = replace(PRESETS["tinyd"], ddr3=True)


def bench(memory, cells, sim="icarus", latency=LATENCY, late=False):
    run_bench(memory, "sim.units.ddr3.bench", cells=cells, sim=sim, config=CONFIG.as_dict(), seed=1,
              latency=latency, late=late)


def test_buffer():
    """Every word, in the one cycle that it has."""
    bench(SimulatedDdr3(CONFIG, initialised=True), VERILOG)


def test_words_that_are_late():
    """A memory that is too slow costs cycles, never a word."""
    bench(SimulatedDdr3(CONFIG, initialised=True, pause=150), VERILOG, late=True)


@pytest.mark.parametrize(("latency", "late"), [(LATENCY, False), (50, True)])
def test_buffer_and_litedram(latency, late):
    """The same with LiteDRAM's own controller and chip: each word has its line by its time, which
    could not be half as long."""
    bench(SimulatedDdr3(CONFIG, initialised=True, litedram=True, latency=latency),
          (VERILOG[1], litedram_verilog()), "verilator", latency, late)


def test_configurations():
    for changes, why in (({"sdram": True}, "one memory"),
                         ({"dram_words": 0, "ring_words": 0}, "no use for it")):
        with pytest.raises(ValueError, match=why):
            replace(CONFIG, **changes)
