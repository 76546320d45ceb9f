"""`hw.uart` against cocotbext-uart: the far end's clock off, jitter, bad bytes, glitches, breaks.

The design is `sim.uart_soak.UartPair`. Settings: baud, clock_hz, error (of the far end's clock),
jitter (in bits), count (bytes of a run), break_cycles, seed.
"""

from __future__ import annotations

import cocotb
from cocotb.triggers import FallingEdge, First, RisingEdge, Timer

from hw.uart import divisor_for
from sim import serial_line
from sim.helpers import settings
from sim.streams import seeded

SLOW, EXACT, FAST = 1, 0, -1
WATCHDOG_MS = 100
"""Stretched; the longest test takes a quarter of it."""


class Bench:
    """The UART with its clock running, and what its receiver handed on."""

    def __init__(self, dut, skew: int = EXACT):
        values = settings()
        self.dut, self.count, self.jitter = dut, values["count"], values["jitter"]
        self.baud = values["baud"] / (1 + skew * values["error"])    # of the far end
        self.bit = serial_line.bit_ns(values["baud"])
        self.break_cycles = values["break_cycles"]
        self.rng = seeded(values["seed"] + skew)
        self.bytes, self.errors = bytearray(), 0
        dut.rx.value, dut.i_valid.value = 1, 0
        dut.divisor.value = divisor_for(values["clock_hz"], values["baud"])
        self.period = serial_line.start_clock(dut.clk, values["clock_hz"])
        cocotb.start_soon(self._collect())
        cocotb.start_soon(self._count_errors())

    async def _collect(self):
        while True:
            await RisingEdge(self.dut.o_valid)
            await FallingEdge(self.dut.clk)
            self.bytes.append(int(self.dut.o_payload.value))

    async def _count_errors(self):
        while True:
            await RisingEdge(self.dut.error)
            self.errors += 1

    async def bits(self, number: float) -> None:
        await Timer(max(1, round(1000 * number * self.bit)), "ps")

    async def far_byte(self, value: int, stop: int = 1) -> None:
        """A byte by hand, with the stop bit that is wanted."""
        for level in (0, *(value >> i & 1 for i in range(8)), stop):
            self.dut.rx.value = level
            await self.bits(1)

    async def send(self, data: bytes) -> None:
        """Feed the sender without a gap."""
        dut = self.dut
        for byte in data:
            if not dut.i_ready.value:
                await RisingEdge(dut.i_ready)
            await FallingEdge(dut.clk)
            dut.i_payload.value, dut.i_valid.value = byte, 1
            await FallingEdge(dut.clk)
            dut.i_valid.value = 0
        if not dut.idle.value:
            await RisingEdge(dut.idle)


@cocotb.test(timeout_time=WATCHDOG_MS, timeout_unit="ms")
@cocotb.parametrize(skew=[SLOW, EXACT, FAST])
async def traffic_both_ways(dut, skew):
    """Bytes back to back and with gaps, both ways at once; not one is wrong."""
    bench = Bench(dut, skew)
    await bench.bits(2)
    far = serial_line.source(dut.rx, bench.baud, rng=bench.rng, jitter=bench.jitter)
    far_sink = serial_line.sink(dut.tx, bench.baud)
    edges = serial_line.watch_levels(dut.tx, bench.bit - 1.01 * bench.period)
    incoming = bench.rng.bytes(bench.count) + b"\x00\x00\xff\xff\x55\xaa"
    outgoing = bench.rng.bytes(bench.count) + b"\x00\x00\xff\xff\x55\xaa"
    sending = cocotb.start_soon(bench.send(outgoing))
    place = 0
    while place < len(incoming):
        burst = int(bench.rng.integers(1, 12))
        await far.write(incoming[place:place + burst])
        await far.wait()
        place += burst
        await bench.bits(3 * bench.rng.random())
    await sending
    await bench.bits(1)
    assert bench.bytes == incoming
    assert bench.errors == 0
    assert far_sink.read_nowait() == outgoing
    # from the first start bit to the last rise: as long as the bits, without gaps
    length = (edges[-1][0] - edges[0][0]) / bench.bit
    last_rise = 10 * len(outgoing) - 1 - (8 - outgoing[-1].bit_length())
    assert abs(length - last_rise) < 1e-2 * last_rise


@cocotb.test(timeout_time=WATCHDOG_MS, timeout_unit="ms")
async def damaged_bytes_do_not_harm_the_next(dut):
    """Missing stop bits and glitches among good bytes: only the good ones arrive."""
    bench = Bench(dut)
    await bench.bits(2)
    good, bad = bytearray(), 0
    for _ in range(bench.count):
        match bench.rng.integers(4):
            case 0:
                await bench.far_byte(int(bench.rng.integers(256)), stop=0)
                await bench.bits(6 * bench.rng.random())
                dut.rx.value = 1
                await bench.bits(1 + bench.rng.random())
                bad += 1
            case 1:   # too short for a start bit; then a time in which no start bit can be missed
                dut.rx.value = 0
                await bench.bits(0.1 + 0.2 * bench.rng.random())
                dut.rx.value = 1
                await bench.bits(1)
            case _:
                good.append(int(bench.rng.integers(256)))
                await bench.far_byte(good[-1])
    await bench.bits(2)
    assert bench.bytes == good and bench.errors == bad
    assert good and bad


@cocotb.test(timeout_time=WATCHDOG_MS, timeout_unit="ms")
async def breaks(dut):
    """A long 0 is one framing error; `broken` rises after break_cycles and falls with the line."""
    bench = Bench(dut)
    await bench.bits(2)
    await bench.far_byte(0x12)
    for part in (0.9, 1.1, 1.5):
        errors = bench.errors
        dut.rx.value = 0
        broken = RisingEdge(dut.broken)
        limit = Timer(round(1000 * part * bench.break_cycles * bench.period), "ps")
        rose = await First(broken, limit) is broken
        assert rose == (part > 1)
        if rose:
            await limit if part == 1.5 else await bench.bits(1)
            assert dut.broken.value
        dut.rx.value = 1
        await bench.bits(2)
        assert not dut.broken.value and bench.errors == errors + 1
        await bench.far_byte(0x34)
    await bench.bits(1)
    assert bytes(bench.bytes) == b"\x12\x34\x34\x34"
