"""SDR SDRAM in simulation: controller, pads and the chip of `sim/sdram.v`, at the core's port."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from amaranth import ClockSignal, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import CoreConfig
from hw.sdram import REFRESHES, Sdram
from hw.sdram_pads import SdramPads
from hw.sdram_timing import BANKS, CHIP, HALF, ROW_WORDS, SdramChip
from hw.stream import DramPort

_HERE = Path(__file__).parent
VERILOG = (_HERE / "sdram.v", _HERE / "cells" / "ecp5_pads.v")
"""What `SimulatedSdram` instantiates."""

BOARDS_CHIP = replace(CHIP, init=5_000)
"""Of simulated boards: a host is there earlier than any host of a real board."""

RULES = ("none", "a command before the chip is ready", "initialised in the wrong order", "tRCD",
         "tRP", "tRAS", "tRC", "tRFC", "tWR", "tMRD", "the refresh interval",
         "a bank that is not open", "a bank that is open", "two drivers of the data lines",
         "a command, mode or mask that the model has not", "tRRD", "a row that the model has not")
"""What `violation` says is broken."""


def violated(number: int) -> str:
    """For people: which rule."""
    return f"the SDRAM chip's rules were broken: {RULES[number]}"


class SimulatedSdram(wiring.Component):
    """A memory for `config.dram_words` at 16 data lines.

    chip: rules that the chip keeps watch of; controller: those that the controller keeps to, None
    for the same.

    Members
    -------
    port: see `hw.stream.DramPort`. violation: index in RULES of the first rule that was broken.
    stuck: data lines that always read as 0 (lower half), as 1 (upper half).
    """

    def __init__(self, config: CoreConfig, chip: SdramChip = BOARDS_CHIP,
                 controller: SdramChip | None = None):
        self._config, self._chip, self._kept = config, chip, controller or chip
        super().__init__({"port": In(DramPort()), "violation": Out(8), "stuck": In(2 * HALF)})

    def elaborate(self, platform):
        m = Module()
        cfg, chip = self._config, self._chip
        m.submodules.controller = controller = Sdram(cfg, self._kept)
        m.submodules.pads = pads = SdramPads()
        wiring.connect(m, wiring.flipped(self.port), controller.port)
        wiring.connect(m, controller.pins, pads.pins)
        late = Signal()     # any phase between the edges of ours is the same to the model
        m.d.comb += [late.eq(~ClockSignal()), pads.clock.eq(late)]
        times = {name.upper(): 1000 * getattr(chip, name) for name in (
            "init", "rcd", "rp", "ras", "rc", "rfc", "wr")}
        times["REFRESH"] = 64 * 10**9 // 8192
        lines = pads.lines
        m.submodules.chip = Instance(
            "sdram_chip", p_ROWS=cfg.dram_words // (BANKS * ROW_WORDS),
            p_PERIOD=10**12 // cfg.clock_hz, p_REFRESHES=REFRESHES, p_MRD=chip.mrd,
            **{f"p_{name}": value for name, value in times.items()},
            **{f"i_{name}": getattr(lines, name) for name in (
                "clk", "cke", "ras_n", "cas_n", "we_n", "ba", "a", "dqm", "dq_off")},
            i_dq_in=lines.dq_out, o_dq_out=lines.dq_in, i_stuck_low=self.stuck[:HALF],
            i_stuck_high=self.stuck[HALF:], o_violation=self.violation)
        return m
