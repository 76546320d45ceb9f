"""The pins of a gigabit PHY (RGMII 2.0) at 100 Mbit, as streams of nibbles in "sync".

At 100 Mbit RGMII is MII with the sender's clock made here and the error in the control line's
second half: a nibble a cycle of 25 MHz, looked at when the clock rises. `management.Management`
sees to it that the PHY offers nothing else. Gigabit would take a datapath of a byte a cycle at 125
MHz, beside the one of MII, for a load that the core is slower than.

Why the pins need no delay cells: whether the PHY delays its clock or not, a nibble is there from
the rising edge on at the latest, to 20 ns after it at the earliest; the input cells look 1 to 5 ns
after it, by their clock's way through the FPGA. To the PHY the clock rises 10 ns after a nibble has
begun and falls 10 ns before it ends, whatever the PHY adds (up to 2 ns).
"""

from __future__ import annotations

from amaranth import ClockDomain, ClockSignal, Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .management import Management
from .mii import RECEIVED, SENT, Mii

OSCILLATOR_HZ = 100_000_000
"""Four cycles make one of the clock to the PHY."""

RGMII = wiring.Signature({
    "rx_clk": In(1), "rx_ctl": In(2), "rx_data": In(4), "oscillator": In(1),
    "tx_clk": Out(1), "tx_ctl": Out(1), "tx_data": Out(4), "mdc": Out(1), "mdio": Out(1),
})
"""Pins of the PHY behind the FPGA's input cells, which look at both edges of `rx_clk`.

rx_ctl: the control line at the rising edge, and at the falling one after it; rx_data: the data
lines at the rising edge; both change with the next rising edge. oscillator: of OSCILLATOR_HZ; what
goes to the PHY changes with it. tx_ctl is the same in both halves: no errors are sent.
"""


class Rgmii(wiring.Component):
    """Nibbles to and from the PHY, and what the PHY is told.

    clock_hz: of "sync".

    Members
    -------
    rgmii: the pins. rx, tx: as those of `mii.Mii`.
    reset: has the PHY reset, and told anew; phy_reset: 1 while it is to be in reset. What is on its
    way when the board is reset still arrives.
    """

    def __init__(self, clock_hz: int):
        self._clock_hz = clock_hz
        super().__init__({
            "rgmii": Out(RGMII), "reset": In(1), "phy_reset": Out(1, init=1),
            "rx": Out(stream.Signature(RECEIVED, always_ready=True)),
            "tx": In(stream.Signature(SENT)),
        })

    def elaborate(self, platform):
        m = Module()
        pins = self.rgmii
        m.submodules.mii = mii = Mii()
        wiring.connect(m, mii.rx, wiring.flipped(self.rx))
        wiring.connect(m, wiring.flipped(self.tx), mii.tx)
        phase = Signal(2)
        m.domains.oscillator = ClockDomain(reset_less=True)     # the clock of `Mii`'s "eth_tx", too
        m.d.oscillator += [phase.eq(phase + 1), pins.tx_clk.eq(~phase[1])]
        m.d.comb += [
            ClockSignal("oscillator").eq(pins.oscillator), mii.mii.tx_clk.eq(pins.oscillator),
            mii.mii.rx_clk.eq(pins.rx_clk), mii.mii.rx_dv.eq(pins.rx_ctl[0]),
            mii.mii.rx_er.eq(pins.rx_ctl[0] ^ pins.rx_ctl[1]), mii.mii.rx_data.eq(pins.rx_data),
            mii.tx_due.eq(phase == 3),
            pins.tx_ctl.eq(mii.mii.tx_en), pins.tx_data.eq(mii.mii.tx_data),
        ]
        management = Management(self._clock_hz)
        m.submodules.management = ResetInserter(self.reset)(management)
        m.d.comb += [pins.mdc.eq(management.mdc), pins.mdio.eq(management.mdio),
                     self.phy_reset.eq(management.phy_reset)]
        return m
