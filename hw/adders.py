"""The four adders of an accumulate unit: lookup tables, or DSP48E1 slices of 7-series parts.

A DSP48E1 adds 48 bits as one number or as fields between which no carry passes (AMD UG479,
"Single Instruction Multiple Data"): four of 12 bits or two of 24. So accumulators of at most 12
bits take one slice for their four timesteps, wider ones two. Accumulator and sum stay outside:
the slice has no register on the way, which keeps a sum in the cycle of its memory's read.
"""

from __future__ import annotations

from amaranth import C, Cat, ClockSignal, Instance, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.vendor import XilinxPlatform

from . import layouts
from .config import TIMESTEPS_PER_GROUP, CoreConfig

SLICE_BITS = 48
UNUSED_REGISTERS = ("A", "ACASC", "AD", "ALUMODE", "B", "BCASC", "C", "CARRYIN", "CARRYINSEL", "D",
                    "INMODE", "M", "OPMODE", "P")


class FourAdders(wiring.Component):
    """`sums` = `currents` + `weights` timestep by timestep, in the same cycle; with `clear` the
    currents count as 0. Sums are modulo 2^acc_bits.

    With `config.dsp_adders` it is made of DSP48E1 slices where a platform of that family builds it,
    and of its arithmetic everywhere else: in simulation, proofs and on ECP5.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        shape = layouts.currents(config)
        super().__init__({"currents": In(shape), "weights": In(shape), "clear": In(1),
                          "sums": Out(shape)})

    def elaborate(self, platform):
        m = Module()
        if self._config.dsp_adders and isinstance(platform, XilinxPlatform):
            self._slices(m)
        else:
            m.d.comb += [
                self.sums[t].eq(Mux(self.clear, 0, self.currents[t]) + self.weights[t])
                for t in range(TIMESTEPS_PER_GROUP)]
        return m

    def _slices(self, m: Module) -> None:
        bits = self._config.slice_bits
        fields = SLICE_BITS // bits
        for n, first in enumerate(range(0, TIMESTEPS_PER_GROUP, fields)):
            shape = data.ArrayLayout(signed(bits), fields)
            c, ab, p = (Signal(shape, name=f"{name}{n}") for name in ("c", "ab", "p"))
            for i in range(fields):
                m.d.comb += [c[i].eq(self.currents[first + i]), ab[i].eq(self.weights[first + i]),
                             self.sums[first + i].eq(p[i])]
            keep = ~self.clear
            m.submodules[f"slice{n}"] = Instance(
                "DSP48E1", p_USE_MULT="NONE", p_USE_SIMD={12: "FOUR12", 24: "TWO24"}[bits],
                **{f"p_{name}REG": 0 for name in UNUSED_REGISTERS},
                # P = Z + X: X is A:B, Z is C or 0.
                i_OPMODE=Cat(C(0b0011, 4), keep, keep, C(0, 1)), i_ALUMODE=C(0, 4),
                i_INMODE=C(0, 5), i_CARRYIN=C(0, 1), i_CARRYINSEL=C(0, 3), i_D=C(0, 25),
                i_A=ab.as_value()[18:], i_B=ab.as_value()[:18], i_C=c.as_value(),
                i_CLK=ClockSignal(), o_P=p.as_value())
