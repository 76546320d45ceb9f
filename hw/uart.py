"""UART, 8 data bits, no parity, 1 stop bit, with a bit time in 1/16 clock cycles.

Bit times need not be whole cycles: 12 Mbaud at 100 MHz is 8 1/3 cycles. Fractions add up over a
byte, so an edge of the sender is never more than half a cycle off, and the receiver starts anew
with every byte. How far the other end's clock may be off is measured by `spiketicket check uart`;
figures are in `docs/link.md`.

Neither unit has a state it could hang in: every value of the counter of bits counts down to idle.
So they need no reset (`top.SerialTop` has none for them), and a reset cuts no byte in two.
"""

from __future__ import annotations

from amaranth import Module, Signal, signed
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
    not 1 is dropped, with an `error` pulse, and the next one begins after the line was 1. `broken`
    is high while the line has been 0 for `break_cycles` cycles.

    Samples are at most one cycle from the middle of the bit. One sample and no vote of three: at 8
    cycles a bit the outer two of three would cost a quarter of the tolerance for the other clock.
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
        rx, before = Signal(init=1), Signal(init=1)
        m.submodules.sync = FFSynchronizer(self.rx, rx, init=1)
        m.d.sync += before.eq(rx)

        # Time to the next sample less a cycle; negative in its cycle.
        time = Signal(signed(DIVISOR_BITS + 1))
        left = Signal(range(11))     # bits to sample: start, 8 data, stop
        sample = time[-1]
        m.d.sync += [self.o.valid.eq(0), self.error.eq(0), time.eq(time - FRACTION)]
        with m.If(left == 0):
            # An edge is seen half a cycle late on average and a sample taken half a cycle late:
            # one cycle less until the first sample makes up for both.
            m.d.sync += time.eq(((self.divisor + 1) >> 1) - 2 * FRACTION - 1)
            with m.If(before & ~rx):
                m.d.sync += left.eq(10)
        with m.Elif(sample):
            m.d.sync += [time.eq(time - FRACTION + self.divisor), left.eq(left - 1)]
            with m.If((left == 10) & rx):
                m.d.sync += left.eq(0)   # a glitch
            with m.If(left == 1):
                m.d.sync += [self.o.valid.eq(rx), self.error.eq(~rx)]
            with m.Else():
                m.d.sync += self.o.payload.eq((self.o.payload >> 1) | (rx << 7))

        low = Signal(range(self._break + 1))
        m.d.comb += self.broken.eq(low >= self._break)
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
        # Time to the end of the bit less a cycle; negative in its last cycle.
        time = Signal(signed(DIVISOR_BITS + 1))
        left = Signal(range(11))
        shift = Signal(9)
        bit_ends = time[-1]
        m.d.comb += self.idle.eq(left == 0)
        with m.If(left != 0):
            m.d.sync += time.eq(time - FRACTION)
            with m.If(bit_ends):
                m.d.sync += [time.eq(time - FRACTION + self.divisor), left.eq(left - 1),
                             self.tx.eq(shift[0]), shift.eq((shift >> 1) | (1 << 8))]
        with m.Else():
            # Half a cycle less: edges on the nearest cycle.
            m.d.sync += [time.eq(self.divisor - FRACTION - FRACTION // 2 - 1), self.tx.eq(1)]
        m.d.comb += self.i.ready.eq((left == 0) | ((left == 1) & bit_ends))
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [self.tx.eq(0), shift.eq(self.i.payload | (1 << 8)), left.eq(10)]
        return m
