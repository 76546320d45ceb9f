"""Pads of an SDR SDRAM chip on ECP5: every line has its register in the pad, so that all take the
same time, and the chip a clock of its own, late by `PHASE`.

A READ's half word is at the pads, with their delays and the chip's access time of 6 ns, 10 to 11 ns
behind the edge of the chip's clock, and stays as long as a cycle; the pads take it with the second
edge of our own clock behind that. At 80 MHz (12.5 ns) the chip's edge is 7.8 ns behind ours: lines
to the chip are 7 ns early and stay 4 ns, its data comes some 6 ns early and stays 2 ns or more.
These are sums of data sheets; no board has been measured.
"""

from __future__ import annotations

from amaranth import ClockSignal, Const, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .sdram import ROW_BITS, SdramPins
from .sdram_timing import HALF

PHASE = 225
"""Degrees by which the chip's clock is behind ours."""


class SdramLines(wiring.Signature):
    """What the pads' buffers have inside, as high or low as the chip sees it.

    dq_off: 1 where a data line is not driven.
    """

    def __init__(self):
        super().__init__({
            "clk": Out(1), "cke": Out(1), "ras_n": Out(1), "cas_n": Out(1), "we_n": Out(1),
            "ba": Out(2), "a": Out(ROW_BITS), "dqm": Out(HALF // 8),
            "dq_out": Out(HALF), "dq_off": Out(HALF), "dq_in": In(HALF),
        })


class SdramPads(wiring.Component):
    """Registers of the pads, a cycle each way.

    clock: the chip's, late by PHASE. pins: of the controller. lines: to the buffers and from them.
    """

    def __init__(self):
        super().__init__({"clock": In(1), "pins": In(SdramPins()), "lines": Out(SdramLines())})

    def elaborate(self, platform):
        m = Module()
        pins, lines = self.pins, self.lines

        def register(kind, name, value, out):
            for bit in range(len(out)):
                m.submodules[f"{name}{bit}"] = Instance(
                    kind, i_SCLK=ClockSignal(), i_SP=Const(1), i_CD=Const(0), i_D=value[bit],
                    o_Q=out[bit])

        for name, value in (
                ("cke", pins.enable), ("ras_n", ~pins.command[0]), ("cas_n", ~pins.command[1]),
                ("we_n", ~pins.command[2]), ("ba", pins.bank), ("a", pins.address),
                ("dqm", pins.mask), ("dq_out", pins.data_out),
                ("dq_off", (~pins.drive).replicate(HALF))):
            register("OFS1P3DX", name, value, getattr(lines, name))
        register("IFS1P3DX", "dq_in", lines.dq_in, pins.data_in)
        m.submodules.clk = Instance("ODDRX1F", i_SCLK=self.clock, i_RST=Const(0), i_D0=Const(1),
                                    i_D1=Const(0), o_Q=lines.clk)
        return m
