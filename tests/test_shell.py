# amaranth: UnusedElaboratable=no
"""The shell of every board, from its pins, in cocotb; its core is a stand-in."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from amaranth import ClockDomain, Module
from amaranth.back import verilog
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import PRESETS
from hw.shell import LEDS, Shell
from sim.runner import run_bench

from .stand_in import StandInCore

TINY = PRESETS["tiny"]


class Board(wiring.Component):
    """A shell with its pins and a clock, as a board's top level has it."""

    def __init__(self, config, **options):
        self._shell = Shell(config, core=StandInCore(config), **options)
        super().__init__({
            "clk": In(1), "rx": In(1, init=1), "tx": Out(1), "reset_button": In(1),
            "locked": In(1, init=1), "leds": Out(len(LEDS)),
        })

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = domain = ClockDomain(reset_less=True)
        m.submodules.shell = shell = self._shell
        m.d.comb += [
            domain.clk.eq(self.clk), shell.rx.eq(self.rx), self.tx.eq(shell.tx),
            shell.reset_button.eq(self.reset_button), shell.locked.eq(self.locked),
            self.leds.eq(shell.leds),
        ]
        return m


def bench(config, baud, *, reset_cycles, **more):
    run_bench(Board(config, default_baud=baud, reset_cycles=reset_cycles, break_cycles=4000),
              "sim.units.shell.bench", config=config.as_dict(), baud=baud,
              reset_cycles=reset_cycles, break_cycles=4000, error=0.02, jitter=0.05, **more)


def test_shell_at_12_megabaud():
    """Resets at any moment, errors, all rates; a reset is over before a frame is."""
    bench(TINY, 12_000_000, reset_cycles=300, seed=5, presses=4,
          rates=[1_000_000, 3_000_000, 12_000_000])


def test_leds():
    """A clock so slow that a second is short to simulate; the line is slow in proportion."""
    bench(replace(TINY, clock_hz=12_800), 1536, reset_cycles=100, seed=6, leds=True)


def test_one_clock():
    """Every flip-flop is clocked by the one clock; only the catcher of resets has another input."""
    text = verilog.convert(Board(TINY), name="board", strip_internal_attrs=True)
    events = Counter(re.findall(r"always @\((.*edge.*)\)", text))
    assert set(events) == {"posedge clk", "posedge async_ff_clk, posedge async_ff_rst"}
    assert events["posedge async_ff_clk, posedge async_ff_rst"] == 2
    assert re.findall(r"\.(?:async_ff_)?clk\((?!clk\))", text) == []


def test_bad_parameters():
    with pytest.raises(ValueError, match="reset_cycles 1 "):
        Shell(TINY, reset_cycles=1)
    with pytest.raises(ValueError, match="clock_hz 100 "):
        Shell(replace(TINY, clock_hz=100), default_baud=10)
    with pytest.raises(ValueError, match="30000000 baud"):
        Shell(TINY, default_baud=30_000_000)
