"""The pins of a 100 Mbit PHY (MII, IEEE 802.3 clause 22) as streams of nibbles in "sync".

The PHY gives both clocks, 25 MHz each (2.5 MHz on a 10 Mbit line), neither in step with "sync".
Full duplex: collision and carrier are not looked at.
"""

from __future__ import annotations

from amaranth import Cat, ClockDomain, ClockSignal, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import AsyncFIFO
from amaranth.lib.wiring import In, Out

MII = wiring.Signature({
    "rx_clk": In(1), "rx_dv": In(1), "rx_er": In(1), "rx_data": In(4),
    "tx_clk": In(1), "tx_en": Out(1), "tx_data": Out(4),
})
"""Pins of the PHY as the FPGA sees them; both clocks come from global buffers."""

RECEIVED = data.StructLayout({"data": 4, "error": 1, "end": 1})
"""A nibble, least significant one of a byte first; or, with `end`, that a frame has ended."""

SENT = data.StructLayout({"data": 4, "enable": 1})
"""What the PHY gets in one cycle of its clock: a nibble, or without `enable` nothing."""

DEPTH = 16
"""Nibbles in each direction on their way between the clocks."""

MIN_CLOCK_HZ = 50_000_000
"""Of "sync": a byte comes every 80 ns, and the sender takes up to 4 cycles for one."""


class Mii(wiring.Component):
    """Nibbles to and from the PHY.

    Members
    -------
    mii: the pins, sampled and changed at the rising edge of their clocks.
    rx: what came, to be taken in the cycle in which it is valid.
    tx: what is to be sent. Within a frame it must be valid in time, at 25 MHz.
    tx_due: in step with `tx_clk`: whether the next nibble goes out. Always, where the PHY's clock
    paces them.

    No reset: what is on its way when the board is reset still arrives.
    """

    def __init__(self):
        super().__init__({
            "mii": Out(MII),
            "rx": Out(stream.Signature(RECEIVED, always_ready=True)),
            "tx": In(stream.Signature(SENT)), "tx_due": In(1, init=1),
        })

    def elaborate(self, platform):
        m = Module()
        mii = self.mii
        for name, clock in (("eth_rx", mii.rx_clk), ("eth_tx", mii.tx_clk)):
            m.domains += ClockDomain(name, reset_less=True)
            m.d.comb += ClockSignal(name).eq(clock)
        m.submodules.rx_fifo = rx = AsyncFIFO(width=RECEIVED.size, depth=DEPTH,
                                              w_domain="eth_rx", r_domain="sync")
        m.submodules.tx_fifo = tx = AsyncFIFO(width=SENT.size, depth=DEPTH,
                                              w_domain="sync", r_domain="eth_tx")
        valid, before, error, nibble = Signal(), Signal(), Signal(), Signal(4)
        m.d.eth_rx += [valid.eq(mii.rx_dv), before.eq(valid), error.eq(mii.rx_er),
                       nibble.eq(mii.rx_data)]
        m.d.comb += [
            rx.w_data.eq(Cat(nibble, error, ~valid)), rx.w_en.eq(valid | before),
            self.rx.payload.eq(rx.r_data), self.rx.valid.eq(rx.r_rdy), rx.r_en.eq(1),
        ]
        sent = data.View(SENT, tx.r_data)
        m.d.comb += [tx.w_data.eq(self.tx.payload), tx.w_en.eq(self.tx.valid),
                     self.tx.ready.eq(tx.w_rdy), tx.r_en.eq(self.tx_due)]
        with m.If(self.tx_due):
            m.d.eth_tx += [mii.tx_en.eq(tx.r_rdy & sent.enable), mii.tx_data.eq(sent.data)]
        return m
