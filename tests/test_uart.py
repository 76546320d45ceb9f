# amaranth: UnusedElaboratable=no
"""Bit timing of the UART, alone and around the top level with a stand-in core."""

import random
import warnings

import pytest
from amaranth.sim import Simulator

from hw import registers
from hw.config import PRESETS
from hw.registers import Register, Space, Status
from hw.top import SerialTop
from hw.uart import FRACTION, UartReceiver, UartSender, divisor_for
from sim.runner import run_bench
from sim.uart_soak import UartPair
from sw.board.protocol import Read, Reply, Request, Splitter, Write, words

from .stand_in import StandInCore

TINY = PRESETS["tiny"]
CLOCK = TINY.clock_hz


def simulate(design, *testbenches):
    simulator = Simulator(design)
    simulator.add_clock(1e-8)
    for testbench in testbenches:
        simulator.add_testbench(testbench)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulator.run()


class Line:
    """The far end of a serial line: bits by the clock cycle, at a rate of its own."""

    def __init__(self, bit_cycles):
        self.bit = bit_cycles
        self.received = bytearray()

    async def send(self, ctx, rx, data):
        """Send bytes without a gap; edges fall on the nearest cycle."""
        time, cycle = 0.0, 0
        for byte in data:
            for level in (0, *(byte >> i & 1 for i in range(8)), 1):
                ctx.set(rx, level)
                time += self.bit
                while cycle < round(time):
                    await ctx.tick()
                    cycle += 1

    async def receive(self, ctx, tx):
        """Collect bytes for ever; sample in the middle of the bits."""
        while True:
            while ctx.get(tx):
                await ctx.tick()
            time, cycle, value = self.bit / 2, 0, 0
            for i in range(10):
                while cycle < time:
                    await ctx.tick()
                    cycle += 1
                level = ctx.get(tx)
                if i == 0:
                    assert level == 0
                elif i == 9:
                    assert level == 1, "no stop bit"
                else:
                    value |= level << i - 1
                time += self.bit
            self.received.append(value)


RATES = (1_000_000, 3_000_000, 12_000_000, 25_000_000)


@pytest.mark.parametrize(("baud", "skew"), [
    *((baud, skew) for baud in RATES[:-1] for skew in (-0.02, 0, 0.02)),
    (RATES[-1], 0),  # 4 cycles a bit leave no room for another clock
])
def test_receiver(baud, skew):
    data = random.Random(baud).randbytes(12) + b"\x00\xff\x55\xaa"
    receiver = UartReceiver()
    got = bytearray()

    async def send(ctx):
        ctx.set(receiver.divisor, divisor_for(CLOCK, baud))
        await ctx.tick().repeat(20)
        await Line(CLOCK / baud * (1 + skew)).send(ctx, receiver.rx, data)
        await ctx.tick().repeat(20)
        assert bytes(got) == data

    async def collect(ctx):
        async for *_, valid, value, error in ctx.tick().sample(
                receiver.o.valid, receiver.o.payload, receiver.error):
            assert not error
            if valid:
                got.append(value)

    simulator = Simulator(receiver)
    simulator.add_clock(1e-8)
    simulator.add_testbench(send)
    simulator.add_process(collect)
    simulator.run()


@pytest.mark.parametrize("baud", RATES)
def test_sender(baud):
    """Bytes without gaps, each bit within one cycle of its time."""
    data = random.Random(baud).randbytes(10) + b"\x00\xff"
    sender, line = UartSender(), Line(CLOCK / baud)
    taken = []

    async def feed(ctx):
        ctx.set(sender.divisor, divisor_for(CLOCK, baud))
        ctx.set(sender.i.valid, 1)
        cycle = 0
        for byte in data:
            ctx.set(sender.i.payload, byte)
            while not ctx.get(sender.i.ready):
                await ctx.tick()
                cycle += 1
            taken.append(cycle)
            await ctx.tick()
            cycle += 1
        ctx.set(sender.i.valid, 0)
        while not ctx.get(sender.idle):
            await ctx.tick()
        await ctx.tick().repeat(5)
        assert bytes(line.received) == data

    async def receive(ctx):
        await line.receive(ctx, sender.tx)

    simulator = Simulator(sender)
    simulator.add_clock(1e-8)
    simulator.add_testbench(feed)
    simulator.add_testbench(receive, background=True)
    simulator.run()
    for i, cycle in enumerate(taken):
        assert abs(cycle - 10 * i * divisor_for(CLOCK, baud) / FRACTION) <= 1


def test_framing_errors_glitches_and_breaks():
    receiver = UartReceiver(break_cycles=400)

    async def testbench(ctx):
        seen = {"bytes": 0, "errors": 0}

        async def hold(level, cycles):
            ctx.set(receiver.rx, level)
            for _ in range(cycles):
                await ctx.tick()
                seen["bytes"] += ctx.get(receiver.o.valid)
                seen["errors"] += ctx.get(receiver.error)
        ctx.set(receiver.divisor, 20 * FRACTION)
        await hold(1, 30)
        await hold(0, 5)      # a glitch, shorter than half a bit
        await hold(1, 300)
        assert seen == {"bytes": 0, "errors": 0}
        await hold(0, 300)    # no stop bit
        assert seen == {"bytes": 0, "errors": 1} and not ctx.get(receiver.broken)
        await hold(0, 110)
        assert ctx.get(receiver.broken)
        await hold(1, 10)
        assert not ctx.get(receiver.broken)
        await hold(0, 20)     # a byte of ones
        await hold(1, 200)
        assert seen == {"bytes": 1, "errors": 1}
    simulate(receiver, testbench)


@pytest.mark.parametrize("baud", RATES[:-1])
def test_far_end_of_cocotbext(baud):
    """2 % off, jitter, damaged bytes, glitches, breaks: see the bench."""
    run_bench(UartPair(break_cycles=3000), "sim.units.uart.bench", baud=baud, clock_hz=CLOCK,
              error=0.02, jitter=0.05, count=max(20, baud // 100_000), break_cycles=3000, seed=3)


def test_divisor_of_rates():
    assert divisor_for(100_000_000, 12_000_000) == 133
    for baud in (115_200, *RATES):
        assert abs(CLOCK * FRACTION / divisor_for(CLOCK, baud) / baud - 1) < 0.005
    for baud in (100, 30_000_000):
        with pytest.raises(ValueError, match=f"{baud} baud"):
            divisor_for(CLOCK, baud)


def test_break_cycles_are_checked():
    with pytest.raises(ValueError, match="break_cycles 2"):
        UartReceiver(break_cycles=2)


def test_top_over_the_line_with_a_change_of_rate():
    """A request changes the rate; its reply comes at the old one; a break brings it back."""
    new_baud = 12_000_000
    top = SerialTop(TINY, core=StandInCore(TINY), break_cycles=2000)
    line = Line(CLOCK / registers.DEFAULT_BAUD)
    splitter = Splitter()

    async def ask(ctx, request, seq):
        await line.send(ctx, top.rx, request.encode(seq))
        for _ in range(60_000):
            for frame in splitter.feed(bytes(line.received)):
                line.received.clear()
                return Reply.decode(frame)
            line.received.clear()
            await ctx.tick()
        raise AssertionError("no reply")

    async def host(ctx):
        divisor = words([divisor_for(CLOCK, new_baud)])
        reply = await ask(ctx, Request(
            Write(Space.REGISTER, Register.DIVISOR, divisor),
            read=Read(Space.REGISTER, 0, 1), sync=True), 5)
        assert (reply.status, reply.words.tolist()) == (Status.OK, [registers.MAGIC])
        await ctx.tick().repeat(50)
        line.bit = CLOCK / new_baud
        reply = await ask(ctx, Request(read=Read(Space.REGISTER, Register.DIVISOR, 1)), 6)
        assert reply.words.tolist() == divisor.tolist()
        ctx.set(top.rx, 0)
        await ctx.tick().repeat(2100)
        ctx.set(top.rx, 1)
        await ctx.tick().repeat(100)
        line.bit = CLOCK / registers.DEFAULT_BAUD
        line.received.clear()
        splitter.clear()
        reply = await ask(ctx, Request(read=Read(Space.REGISTER, 0, 1)), 7)
        assert (reply.status, reply.words.tolist()) == (Status.OK, [registers.MAGIC])

    async def receive(ctx):
        await line.receive(ctx, top.tx)

    simulator = Simulator(top)
    simulator.add_clock(1e-8)
    simulator.add_testbench(host)
    simulator.add_testbench(receive, background=True)
    simulator.run()
