"""The memory behind a core's DRAM port in simulation: `sim/dram.v`, wired up."""

from __future__ import annotations

from pathlib import Path

from amaranth import ClockSignal, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import CoreConfig
from hw.core import Core
from hw.stream import DramPort
from sw.core.dram_timing import SIMULATED, DramTiming

VERILOG = Path(__file__).with_name("dram.v")
"""The module that `memory` instantiates."""


def memory(port, config: CoreConfig, timing: DramTiming = SIMULATED) -> Instance:
    """The memory at a `DramPort` of its user."""
    pins = {}
    for name, member in DramPort().members.items():
        # Out of the user is into the memory.
        pins[f"{'i' if member.flow == Out else 'o'}_{name}"] = getattr(port, name)
    return Instance("simulated_dram", p_WORDS=config.dram_words, p_LATENCY=timing.latency,
                    p_INTERVAL=timing.interval, p_PAUSE=timing.pause, p_REST=timing.rest,
                    i_clk=ClockSignal("sync"), **pins)


class CoreWithDram(wiring.Component):
    """A core and its memory, with the core's other ports."""

    def __init__(self, config: CoreConfig, timing: DramTiming = SIMULATED):
        self._core, self._timing = Core(config), timing
        super().__init__({name: member for name, member in self._core.signature.members.items()
                          if name != "dram"})

    def elaborate(self, platform):
        m = Module()
        m.submodules.core = core = self._core
        m.submodules.dram = memory(core.dram, core.config, self._timing)
        for name, member in self.signature.members.items():
            if name == "bus":
                wiring.connect(m, wiring.flipped(self.bus), core.bus)
            elif member.flow == In:
                m.d.comb += getattr(core, name).eq(getattr(self, name))
            else:
                m.d.comb += getattr(self, name).eq(getattr(core, name))
        return m
