"""Tells a gigabit PHY to negotiate 100 Mbit, full duplex, and nothing else (MDIO, clause 22)."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

SETTINGS = ((9, 0x0000), (4, 0x0101), (0, 0x1200))
"""Registers and what is written to them, in this order: no 1000 Mbit is offered (9); 100 Mbit, full
duplex, is (4); then the negotiation begins anew (0). Clause 22.2.4 and 28; the KSZ9031RNX and the
88E1512 take the first two when the third is written."""

ADDRESSES = 32
"""All are written to, since a board's straps give the PHY any of them and it is alone there."""

RESET_MS, SETTLE_MS = 20, 100
"""How long the PHY is reset, and left alone after that. The data sheets want 10 ms of both PHYs'
supplies and clocks before the end of the reset, and up to 50 ms before the first write."""

BIT_CYCLES = 64
"""Cycles of "sync" a bit takes: below the 2.5 MHz of the clause up to 160 MHz."""


def frame(address: int, register: int, value: int) -> int:
    """A write of clause 22 as 64 bits, the first one most significant."""
    return (0xFFFF_FFFF << 32 | 0b0101 << 28 | address << 23 | register << 18 | 0b10 << 16
            | value)


class Management(wiring.Component):
    """Resets the PHY, waits, writes SETTINGS once, then is still.

    It only writes, so it drives the data line all the time: a PHY drives it in reads alone.

    Parameters
    ----------
    clock_hz: of "sync". reset_ms, settle_ms, addresses: see RESET_MS, ADDRESSES; less for tests.

    Members
    -------
    phy_reset: 1 while the PHY is to be in reset. mdc, mdio: clock and data; data changes when the
    clock falls, the PHY looks when it rises.
    """

    def __init__(self, clock_hz: int, *, reset_ms: float = RESET_MS, settle_ms: float = SETTLE_MS,
                 addresses: int = ADDRESSES):
        self._addresses = addresses
        self._reset = max(1, round(clock_hz * reset_ms / 1e3))
        self._settle = max(1, round(clock_hz * settle_ms / 1e3))
        super().__init__({"phy_reset": Out(1, init=1), "mdc": Out(1), "mdio": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        left = Signal(range(max(self._reset, self._settle)), init=self._reset - 1)
        phase, bit = Signal(range(BIT_CYCLES)), Signal(range(64))
        setting, address = Signal(range(len(SETTINGS))), Signal(range(ADDRESSES))
        m.d.sync += left.eq(left - 1)
        with m.FSM():
            with m.State("RESET"):
                with m.If(left == 0):
                    m.d.sync += [left.eq(self._settle - 1), self.phy_reset.eq(0)]
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                with m.If(left == 0):
                    m.next = "WRITE"
            with m.State("WRITE"):
                last_bit, last = bit == 63, setting == len(SETTINGS) - 1
                m.d.sync += [phase.eq(phase + 1), self.mdc.eq(phase[-1])]
                with m.If(phase == 0):
                    m.d.sync += self.mdio.eq(self._bits(m, address, setting).bit_select(~bit, 1))
                with m.If(phase == BIT_CYCLES - 1):
                    m.d.sync += bit.eq(bit + 1)
                    with m.If(last_bit):
                        m.d.sync += setting.eq(setting + 1)
                        with m.If(last):
                            m.d.sync += [setting.eq(0), address.eq(address + 1)]
                            with m.If(address == self._addresses - 1):
                                m.next = "DONE"
            with m.State("DONE"):
                m.d.sync += [self.mdc.eq(0), self.mdio.eq(1)]
        return m

    def _bits(self, m: Module, address, setting) -> Signal:
        """`frame` of a setting to an address."""
        bits, rest = Signal(64), Signal(23)
        with m.Switch(setting):
            for number, (register, value) in enumerate(SETTINGS):
                with m.Case(number):
                    m.d.comb += rest.eq(frame(0, register, value))
        m.d.comb += bits.eq(Cat(rest, address, Const(frame(0, 0, 0) >> 28, 36)))
        return bits
