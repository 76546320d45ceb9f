"""SDR SDRAM: controller, pads and chip at the pins; what a wrong controller breaks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hw.sdram_timing import cycles
from sim.fault_dram import CONFIG
from sim.runner import run_bench
from sim.sdram import BOARDS_CHIP, VERILOG, SimulatedSdram


def bench(config, controller=None, seed=1):
    run_bench(SimulatedSdram(config, controller=controller), "sim.units.sdram.bench",
              cells=VERILOG, config=config.as_dict(), seed=seed)


@pytest.mark.parametrize("megahertz", [100, 80])
def test_controller(megahertz):
    """Words, rules of the chip, and every cycle as the model has it."""
    bench(replace(CONFIG, clock_hz=megahertz * 1_000_000), seed=megahertz)


@pytest.mark.parametrize(("wrong", "rule"), [
    ({"rcd": 10}, "tRCD"), ({"rp": 10}, "tRP"), ({"ras": 30, "rc": 50}, "tRAS"),
    ({"rfc": 55}, "tRFC"), ({"wr": 0}, "tWR"), ({"mrd": 1}, "tMRD"),
    ({"refresh": 9000}, "refresh interval"), ({"init": 4000}, "before the chip is ready")])
def test_a_wrong_controller_breaks_the_chips_rules(wrong, rule):
    """One time too short, in the controller only."""
    config = replace(CONFIG, clock_hz=100_000_000)
    with pytest.raises(AssertionError, match=f"rules were broken: .*{rule}"):
        bench(config, replace(BOARDS_CHIP, **wrong))


def test_cycles_of_a_clock():
    """Rounded up, but for the interval between refreshes."""
    at = cycles(80_000_000)
    assert (at.rcd, at.rp, at.ras, at.rfc, at.recovery, at.init) == (2, 2, 4, 6, 3, 16_000)
    assert at.interval + at.wake + at.ras + at.recovery + at.rp < 64_000_000 / 8192 / 12.5
    for clock_hz, why in ((101_000_000, "above"), (2_000_000, "too slow")):
        with pytest.raises(ValueError, match=why):
            cycles(clock_hz)


def test_configurations_without_a_chip_of_that_size():
    for changes, why in (({"dram_words": 1 << 24}, "SDR SDRAM chip has"),
                         ({"clock_hz": 120_000_000}, "the most for SDR SDRAM"),
                         ({"dram_words": 0, "ring_words": 0}, "no use for it")):
        with pytest.raises(ValueError, match=why):
            replace(CONFIG, **changes)
