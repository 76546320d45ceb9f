"""Clock of the core from the board's oscillator: PLL parameters, and the PLL as gateware.

The solvers are plain functions over the data sheets' ranges (Lattice FPGA-TN-02200 for EHXPLLL, AMD
DS181 for PLLE2 at speed grade -1); no PLL is used where both clocks are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranth import ClockDomain, ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from sw.errors import BadInput

TOLERANCE = 1e-3
"""Largest deviation from the clock asked for, as a part of it."""


@dataclass(frozen=True)
class PllParameters:
    """out = input_hz / divide * multiply / out_divide; vco_hz is the oscillator in between."""

    input_hz: int
    divide: int
    multiply: int
    out_divide: int

    @property
    def pfd_hz(self) -> float:
        return self.input_hz / self.divide

    @property
    def output_hz(self) -> float:
        return self.vco_hz / self.out_divide

    @property
    def vco_hz(self) -> float:
        return self.pfd_hz * self.multiply


@dataclass(frozen=True)
class PllRanges:
    """What a PLL can do: frequencies in Hz, dividers as (lowest, highest)."""

    name: str
    pfd: tuple[float, float]
    vco: tuple[float, float]
    divide: tuple[int, int]
    multiply: tuple[int, int]
    out_divide: tuple[int, int]


EHXPLLL = PllRanges("EHXPLLL", (10e6, 400e6), (400e6, 800e6), (1, 128), (1, 128), (1, 128))
"""The feedback is output CLKOP, whose divider multiplies; the clock is output CLKOS."""

PLLE2 = PllRanges("PLLE2_ADV", (19e6, 450e6), (800e6, 1600e6), (1, 56), (2, 64), (1, 128))
RANGES = {"ecp5": EHXPLLL, "xc7": PLLE2}


def solve(ranges: PllRanges, input_hz: int, output_hz: int) -> PllParameters:
    """The setting nearest to `output_hz`; among equals the highest phase detector frequency, then
    the VCO nearest the middle of its range (both for the least jitter).

    Raises SpikeTicketError naming the nearest possible clock if it is off by more than TOLERANCE.
    """
    best: tuple[tuple[float, float, float], PllParameters] | None = None
    middle = sum(ranges.vco) / 2
    for divide in range(ranges.divide[0], ranges.divide[1] + 1):
        pfd = input_hz / divide
        if not ranges.pfd[0] <= pfd <= ranges.pfd[1]:
            continue
        for out_divide in range(ranges.out_divide[0], ranges.out_divide[1] + 1):
            multiply = round(output_hz * out_divide / pfd)
            if not ranges.multiply[0] <= multiply <= ranges.multiply[1]:
                continue
            found = PllParameters(input_hz, divide, multiply, out_divide)
            if not ranges.vco[0] <= found.vco_hz <= ranges.vco[1]:
                continue
            cost = (abs(found.output_hz - output_hz), -pfd, abs(found.vco_hz - middle))
            if best is None or cost < best[0]:
                best = cost, found
    if best is None:
        raise BadInput(f"--clock: {ranges.name} makes no {output_hz / 1e6:g} MHz from "
                       f"{input_hz / 1e6:g} MHz; choose a clock of 10 to 400 MHz")
    if best[0][0] > TOLERANCE * output_hz:
        raise BadInput(
            f"--clock: {ranges.name} makes no {output_hz / 1e6:g} MHz from {input_hz / 1e6:g} MHz; "
            f"the nearest is {best[1].output_hz / 1e6:g} MHz")
    return best[1]


def parameters(family: str, input_hz: int, output_hz: int) -> PllParameters | None:
    """PLL setting for a family ("xc7", "ecp5"); None where the clocks are equal."""
    return None if input_hz == output_hz else solve(RANGES[family], input_hz, output_hz)


class Pll(wiring.Component):
    """The family's PLL, or just the clock buffer where `setting` is None.

    clk_in: from the pad. clk_out: buffered, for the whole FPGA. locked: 1 when it may be used.
    clk_late, where `late` is not None (ECP5 with a PLL only): the same clock, so many degrees late.
    """

    def __init__(self, family: str, setting: PllParameters | None, late: int | None = None):
        assert late is None or (family == "ecp5" and setting is not None), family
        self._family, self._setting, self._late = family, setting, late
        super().__init__({"clk_in": In(1), "clk_out": Out(1), "locked": Out(1)} | (
            {} if late is None else {"clk_late": Out(1)}))

    def elaborate(self, platform):
        m = Module()
        if self._setting is None:
            m.d.comb += self.locked.eq(1)
            # nextpnr-ecp5 puts clocks on global lines by itself.
            if self._family == "xc7":
                m.submodules.buffer = Instance("BUFG", i_I=self.clk_in, o_O=self.clk_out)
            else:
                m.d.comb += self.clk_out.eq(self.clk_in)
        elif self._family == "xc7":
            self._plle2(m)
        else:
            self._ehxplll(m)
        return m

    def _plle2(self, m: Module) -> None:
        setting, feedback, output = self._setting, Signal(), Signal()
        m.submodules.pll = Instance(
            "PLLE2_ADV", p_BANDWIDTH="OPTIMIZED", p_COMPENSATION="INTERNAL",
            p_CLKIN1_PERIOD=round(1e9 / setting.input_hz, 3), p_DIVCLK_DIVIDE=setting.divide,
            p_CLKFBOUT_MULT=setting.multiply, p_CLKOUT0_DIVIDE=setting.out_divide,
            p_STARTUP_WAIT="FALSE",
            i_CLKIN1=self.clk_in, i_CLKIN2=Const(0), i_CLKINSEL=Const(1), i_CLKFBIN=feedback,
            i_RST=Const(0), i_PWRDWN=Const(0),
            o_CLKFBOUT=feedback, o_CLKOUT0=output, o_LOCKED=self.locked)
        m.submodules.buffer = Instance("BUFG", i_I=output, o_O=self.clk_out)

    def _ehxplll(self, m: Module) -> None:
        setting, feedback, second = self._setting, Signal(), {}
        if self._late is not None:
            # Whole periods of the VCO, and eighths of one.
            periods, eighths = divmod(round(self._late * setting.out_divide / 45), 8)
            second = {
                "a_FREQUENCY_PIN_CLKOS2": f"{setting.output_hz / 1e6:.6f}",
                "p_CLKOS2_DIV": setting.out_divide, "p_CLKOS2_ENABLE": "ENABLED",
                "p_CLKOS2_CPHASE": setting.out_divide - 1 + periods, "p_CLKOS2_FPHASE": eighths,
                "i_ENCLKOS2": Const(0), "o_CLKOS2": self.clk_late}
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=f"{setting.input_hz / 1e6:.6f}",
            a_FREQUENCY_PIN_CLKOP=f"{setting.pfd_hz / 1e6:.6f}",
            a_FREQUENCY_PIN_CLKOS=f"{setting.output_hz / 1e6:.6f}",
            a_ICP_CURRENT="12", a_LPF_RESISTOR="8", a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_CLKI_DIV=setting.divide, p_CLKFB_DIV=1, p_FEEDBK_PATH="CLKOP",
            p_CLKOP_DIV=setting.multiply, p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_CPHASE=setting.multiply - 1, p_CLKOP_FPHASE=0, p_OUTDIVIDER_MUXA="DIVA",
            p_CLKOS_DIV=setting.out_divide, p_CLKOS_ENABLE="ENABLED",
            p_CLKOS_CPHASE=setting.out_divide - 1, p_CLKOS_FPHASE=0, p_OUTDIVIDER_MUXB="DIVB",
            p_PLLRST_ENA="DISABLED", p_INTFB_WAKE="DISABLED", p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED",
            i_CLKI=self.clk_in, i_CLKFB=feedback, i_RST=Const(0), i_STDBY=Const(0),
            i_PHASESEL0=Const(0), i_PHASESEL1=Const(0), i_PHASEDIR=Const(0), i_PHASESTEP=Const(0),
            i_PHASELOADREG=Const(0), i_PLLWAKESYNC=Const(0), i_ENCLKOP=Const(0),
            i_ENCLKOS=Const(0),
            o_CLKOP=feedback, o_CLKOS=self.clk_out, o_LOCK=self.locked, **second)


def sync_domain(m: Module, clock: Signal) -> None:
    """The one clock domain of the design; `hw.shell` makes its reset."""
    m.domains.sync = ClockDomain("sync", reset_less=True)
    m.d.comb += ClockSignal("sync").eq(clock)
