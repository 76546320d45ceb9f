"""UART, 8 data bits, no parity, 1 stop bit, with a bit time in 1/16 clock cycles.

Bit times need not be whole cycles: 12 Mbaud at 100 MHz is 8 1/3 cycles. An edge is at most one
cycle off, and the receiver starts anew with every byte.
"""

from __future__ import annotations

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

FRACTION = 16
"""The divisor counts 1/FRACTION clock cycles."""

DIVISOR_BITS = 20


def divisor_for(clock_hz: int, baud: int) -> int:
    """Divisor of a baud rate. Raises ValueError where bits are shorter than 4 or too long."""
    divisor = round(clock_hz * FRACTION / baud)
    if not 4 * FRACTION <= divisor < 1 << DIVISOR_BITS:
        raise ValueError(f"{baud} baud cannot be made from {clock_hz} Hz")
    return divisor


class UartReceiver(wiring.Component):
    """Receives bytes; samples every bit in its middle, once.

    `o` cannot be held up: a byte that is not taken in its cycle is lost. A byte whose stop bit is
    not 1 is dropped, with an `error` pulse. `broken` is high while the line has been 0 for
    `break_cycles` cycles.
    """

    def __init__(self, *, break_cycles: int = 1 << 18):
        if break_cycles < 16:
            raise ValueError(f"break_cycles {break_cycles} is below 16")
        self._break = break_cycles
        super().__init__({
            "rx": In(1, init=1), "divisor": In(DIVISOR_BITS),
            "o": Out(stream.Signature(8, always_ready=True)), "error": Out(1), "broken": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        rx = Signal(init=1)
        m.submodules.sync = FFSynchronizer(self.rx, rx, init=1)
        phase = Signal(DIVISOR_BITS + 1)
        sample = Signal()
        m.d.comb += sample.eq(phase + FRACTION >= self.divisor)
        m.d.sync += phase.eq(phase + FRACTION)
        with m.If(sample):
            m.d.sync += phase.eq(phase + FRACTION - self.divisor)

        bit = Signal(range(8))
        m.d.sync += [self.o.valid.eq(0), self.error.eq(0)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [phase.eq(self.divisor >> 1), bit.eq(0)]
                with m.If(~rx):
                    m.next = "START"
            with m.State("START"):
                with m.If(sample):
                    m.next = "DATA"
                    with m.If(rx):
                        m.next = "IDLE"  # a glitch
            with m.State("DATA"):
                with m.If(sample):
                    m.d.sync += [self.o.payload.eq((self.o.payload >> 1) | (rx << 7)),
                                 bit.eq(bit + 1)]
                    with m.If(bit == 7):
                        m.next = "STOP"
            with m.State("STOP"):
                with m.If(sample):
                    m.d.sync += [self.o.valid.eq(rx), self.error.eq(~rx)]
                    m.next = "HIGH"
            with m.State("HIGH"):  # after a framing error, wait for the line to return
                with m.If(rx):
                    m.next = "IDLE"

        low = Signal(range(self._break + 1))
        m.d.comb += self.broken.eq(low == self._break)
        with m.If(rx):
            m.d.sync += low.eq(0)
        with m.Elif(~self.broken):
            m.d.sync += low.eq(low + 1)
        return m


class UartSender(wiring.Component):
    """Sends bytes; `i` is taken when the byte before has left, without a gap between bytes."""

    def __init__(self):
        super().__init__({
            "i": In(stream.Signature(8)), "divisor": In(DIVISOR_BITS),
            "tx": Out(1, init=1), "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        phase = Signal(DIVISOR_BITS + 1)
        left = Signal(range(11))
        shift = Signal(9)
        bit_ends = Signal()
        m.d.comb += [bit_ends.eq(phase + FRACTION >= self.divisor), self.idle.eq(left == 0)]
        with m.If(left != 0):
            m.d.sync += phase.eq(phase + FRACTION)
            with m.If(bit_ends):
                m.d.sync += [phase.eq(phase + FRACTION - self.divisor), left.eq(left - 1),
                             self.tx.eq(shift[0]), shift.eq((shift >> 1) | (1 << 8))]
        with m.Else():
            m.d.sync += phase.eq(0)
        m.d.comb += self.i.ready.eq((left == 0) | ((left == 1) & bit_ends))
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [self.tx.eq(0), shift.eq(self.i.payload | (1 << 8)), left.eq(10)]
        return m
