"""The memory behind a core's DRAM port in simulation: an SDRAM chip with its controller
(`sim.sdram`) or DDR3 (`sim.ddr3`) where the core has that, else the memory of `sim/dram.v`."""

from __future__ import annotations

from pathlib import Path

from amaranth import ClockSignal, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import CoreConfig
from hw.core import Core
from hw.stream import DramPort
from sw.core.dram_timing import SIMULATED

from . import ddr3, sdram

_VERILOG = Path(__file__).with_name("dram.v")


def verilog(config: CoreConfig) -> tuple[Path, ...]:
    """Files with the modules that a core's memory instantiates."""
    if not config.dram_words:
        return ()
    if config.ddr3:
        return ddr3.VERILOG
    return sdram.VERILOG if config.sdram else (_VERILOG,)


class SimulatedDram(wiring.Component):
    """The memory of `sim/dram.v`. port: see `hw.stream.DramPort`."""

    def __init__(self, config: CoreConfig):
        self._words = config.dram_words
        super().__init__({"port": In(DramPort())})

    def elaborate(self, platform):
        m = Module()
        timing = SIMULATED
        m.submodules.memory = Instance(
            "simulated_dram", p_WORDS=self._words, p_LATENCY=timing.latency,
            p_INTERVAL=timing.interval, p_PAUSE=timing.pause, p_REST=timing.rest,
            i_clk=ClockSignal("sync"),
            **ddr3.pins(DramPort(), self.port))
        return m


def memory(config: CoreConfig, *, initialised: bool = False
           ) -> SimulatedDram | sdram.SimulatedSdram | ddr3.SimulatedDdr3:
    """What a core of this configuration has at its port. initialised: see `SimulatedDdr3`."""
    if config.ddr3:
        return ddr3.SimulatedDdr3(config, initialised=initialised)
    return sdram.SimulatedSdram(config) if config.sdram else SimulatedDram(config)


class CoreWithDram(wiring.Component):
    """A core and its memory, with the core's other ports.

    violation: of a core with SDRAM, see `sim.sdram.SimulatedSdram`; 0 otherwise.
    """

    def __init__(self, config: CoreConfig):
        self._core = Core(config)
        super().__init__({name: member for name, member in self._core.signature.members.items()
                          if name != "dram"} | {"violation": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.core = core = self._core
        m.submodules.dram = dram = memory(core.config, initialised=True)
        wiring.connect(m, core.dram, dram.port)
        if core.config.sdram:
            m.d.comb += self.violation.eq(dram.violation)
        for name, member in self.signature.members.items():
            if name == "violation":
                continue
            if name == "bus":
                wiring.connect(m, wiring.flipped(self.bus), core.bus)
            elif member.flow == In:
                m.d.comb += getattr(core, name).eq(getattr(self, name))
            else:
                m.d.comb += getattr(self, name).eq(getattr(core, name))
        return m
