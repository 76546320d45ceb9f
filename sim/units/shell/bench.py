"""`hw.shell.Shell` from its pins: requests at every rate, reset at any moment, LEDs.

The design has a clock input and no other reset than the shell's; its core is a stand-in. Settings:
config, baud (at power-up), reset_cycles, break_cycles, error and jitter of the far end, seed;
`leds` for the test of the LEDs alone, else `rates` to try and `presses` of the button in a frame.
"""

from __future__ import annotations

import zlib

import cocotb
from cocotb.triggers import (
    ClockCycles,
    FallingEdge,
    RisingEdge,
    SimTimeoutError,
    Timer,
    with_timeout,
)
from cocotb.utils import get_sim_time

from hw import program, registers
from hw.config import CoreConfig
from hw.registers import Register, Space, Status
from hw.uart import divisor_for
from sim import serial_line
from sim.helpers import settings
from sim.streams import seeded
from sw.board.protocol import (
    FrameError,
    Read,
    Reply,
    Request,
    Run,
    Splitter,
    Write,
    encode_frame,
    words,
)

HEARTBEAT, ACTIVITY, ERROR = 1, 2, 4
STUCK = 0xFFFF_FFFF
"""A number of layers that the stand-in core never ends."""

LEDS = settings().get("leds", False)
WATCHDOG_MS = 1000
"""Stretched; the longest test takes a fifth of it."""


class Host:
    """Far end of the shell's line: sends requests, reads replies."""

    def __init__(self, dut, label: str):
        values = settings()
        self.dut, self.values = dut, values
        self.config = CoreConfig(**values["config"])
        self.rng = seeded(values["seed"], label)
        self.seq, self.epoch, self.splitter = 0, 0, Splitter()
        dut.rx.value, dut.reset_button.value, dut.locked.value = 1, 0, 1
        self.period = serial_line.start_clock(dut.clk, self.config.clock_hz)
        self.baud = values["baud"]
        self.source = self.sink = None
        self.edges = serial_line.watch_levels(dut.tx, 3 * self.period)

    def connect(self, baud: int, skew: float = 0) -> None:
        """Go on at another rate."""
        self.close()
        self.baud = baud
        far = baud / (1 + skew)
        self.source = serial_line.source(self.dut.rx, far, rng=self.rng,
                                         jitter=self.values["jitter"])
        self.sink = serial_line.sink(self.dut.tx, far)
        self.splitter = Splitter()

    def close(self) -> None:
        for end in (self.source, self.sink):
            if end is not None:
                end._run_cr.cancel()

    @property
    def bit(self) -> float:
        return serial_line.bit_ns(self.baud)

    async def wait(self, ns: float) -> None:
        await Timer(max(1, round(1000 * ns)), "ps")

    async def restart(self) -> None:
        """Reset by button, and on at the default rate."""
        self.close()
        self.dut.rx.value = 1
        await self.wait(self.period)
        await self.press()
        await ClockCycles(self.dut.clk, self.values["reset_cycles"] + 20)
        self.epoch = 0
        self.connect(self.values["baud"])

    async def press(self) -> None:
        """The button for 0.1 to 3 cycles, at no particular moment of the clock."""
        self.dut.reset_button.value = 1
        await self.wait(self.period * (0.1 + 3 * self.rng.random()))
        self.dut.reset_button.value = 0

    async def reply(self) -> Reply:
        """The next frame from the board; fails the test where none comes."""
        while True:
            try:
                await with_timeout(self.sink.wait(), round(2000 * self.bit), "ns")
            except SimTimeoutError:
                raise AssertionError("no reply") from None
            for frame in self.splitter.feed(bytes(self.sink.read_nowait())):
                return Reply.decode(frame)

    async def ask(self, *requests: Request) -> list[Reply]:
        """Send requests back to back, return their replies, all of which must be OK."""
        expected = []
        for request in requests:
            self.source.write_nowait(request.encode(self.seq))
            self.advance(request)
            expected.append((Status.OK, self.seq, self.epoch))
            self.seq = (self.seq + 1) & 0xFFFF
        replies = [await self.reply() for _ in requests]
        assert [(reply.status, reply.seq, reply.epoch) for reply in replies] == expected
        return replies

    def advance(self, request: Request) -> None:
        """The board's epoch, once this request with the number that is due has been done."""
        if request.chained:
            self.epoch = registers.next_epoch(self.epoch, zlib.crc32(request.frame(self.seq)))

    def echo(self, count: int, *, sync: bool = False) -> tuple[Request, list[int]]:
        """A request that writes random words and reads them back, and the words."""
        data = [int(word) for word in self.rng.integers(0, 1 << 32, count)]
        address = int(self.rng.integers(0, 64))
        return Request(Write(Space.WEIGHT, address, words(data)),
                       read=Read(Space.WEIGHT, address, count), sync=sync), data

    async def check(self, *, fresh: bool = False) -> None:
        """The board takes a sync request and does it; `fresh`: it was reset before."""
        if fresh:
            self.epoch = 0
        await self.ask(Request(sync=True))
        request, data = self.echo(1)
        reply, = await self.ask(request)
        assert reply.words.tolist() == data

    async def set_rate(self, baud: int, skew: float = 0) -> None:
        """Set the board's rate and go on at it; the far end's bits are longer by `skew`."""
        divisor = words([divisor_for(self.config.clock_hz, baud)])
        await self.ask(Request(Write(Space.REGISTER, Register.DIVISOR, divisor), sync=True))
        await self.wait(4 * self.bit)
        self.connect(baud, skew)


@cocotb.test(skip=LEDS, timeout_time=WATCHDOG_MS, timeout_unit="ms")
async def power_up(dut):
    """tx is 1 from the first moment; the first request after the reset is done."""
    host = Host(dut, "power_up")
    host.connect(host.baud)
    await host.wait(1)
    assert dut.tx.value == 1
    await ClockCycles(dut.clk, 4)
    assert dut.leds.value == HEARTBEAT
    host.source.write_nowait(b"\5\0")     # while the reset lasts: not even a damaged frame
    await ClockCycles(dut.clk, host.values["reset_cycles"] + 20)
    assert not host.edges and dut.tx.value == 1
    await host.source.wait()
    await host.wait(20 * host.bit)
    reply, = await host.ask(Request(read=Read(Space.REGISTER, Register.FRAMES, 2), sync=True))
    assert reply.words.tolist() == [1, 0]   # good and damaged frames


@cocotb.test(skip=LEDS, timeout_time=WATCHDOG_MS, timeout_unit="ms")
async def every_rate(dut):
    """Change of rate, frames back to back with a wrong clock and jitter, a break, and again."""
    host = Host(dut, "rates")
    await host.restart()
    skew = host.values["error"]
    for baud in host.values["rates"]:
        await host.set_rate(baud, skew)
        skew = -skew
        asked = [host.echo(int(host.rng.integers(1, 3))) for _ in range(2)]
        replies = await host.ask(*(request for request, _ in asked))
        for reply, (_, data) in zip(replies, asked, strict=True):
            assert reply.words.tolist() == data
        dut.rx.value = 0
        await ClockCycles(dut.clk, host.values["break_cycles"] + 20)
        dut.rx.value = 1
        await host.wait(2 * host.bit)
        host.connect(host.values["baud"])
        host.source.write_nowait(b"\0")   # ends what the break may have left


@cocotb.test(skip=LEDS, timeout_time=WATCHDOG_MS, timeout_unit="ms")
async def framing_error_in_a_frame(dut):
    """A byte without stop bit spoils its frame only; the error LED and a NAK tell."""
    host = Host(dut, "framing")
    await host.restart()
    await host.check()
    assert not int(dut.leds.value) & ERROR
    request, _ = host.echo(2)
    frame = request.encode(host.seq)
    broken = int(host.rng.integers(2, len(frame) - 3))
    for place, byte in enumerate(frame):
        for level in (0, *(byte >> i & 1 for i in range(8)), place != broken, 1):
            dut.rx.value = level
            await host.wait(host.bit)
        if place == broken:
            await ClockCycles(dut.clk, 10)
            assert int(dut.leds.value) & ERROR
    reply = await host.reply()
    assert (reply.status, reply.seq) == (Status.BAD_FRAME, host.seq)
    await host.check()


@cocotb.test(skip=LEDS, timeout_time=WATCHDOG_MS, timeout_unit="ms")
async def run_without_end(dut):
    """A run stopped at its limit lights the error LED; the core is ready for the next."""
    host = Host(dut, "run")
    await host.restart()
    for layers, status in ((STUCK, Status.TIMEOUT), (1, Status.OK)):
        host.source.write_nowait(Request(Write(Space.PROGRAM, 0, words([layers])),
                                         Run(max_cycles=60), sync=True).encode(host.seq))
        assert not int(dut.leds.value) & ERROR
        assert (await host.reply()).status == status
        if status == Status.TIMEOUT:
            assert int(dut.leds.value) & ERROR
            await host.restart()


@cocotb.test(skip=LEDS, timeout_time=WATCHDOG_MS, timeout_unit="ms")
async def reset_while_receiving(dut):
    """The button at any moment of a request: the request is not done, the next one is."""
    host = Host(dut, "receiving")
    await host.restart()
    for press in range(host.values["presses"]):
        await host.check(fresh=True)
        request = Request(Write(Space.WEIGHT, 0, words([77])))
        frame = request.encode(host.seq)
        host.source.write_nowait(frame)
        length = 10 * len(frame) * host.bit
        await host.wait(length * (press + 0.9 * host.rng.random()) / host.values["presses"])
        edges = len(host.edges)
        await host.press()
        await host.source.wait()
        # What is left of the frame after the reset is one damaged frame, or nothing.
        await ClockCycles(dut.clk, host.values["reset_cycles"] + 100)
        if len(host.edges) != edges:
            reply = await host.reply()
            assert (reply.status, len(reply.words)) == (Status.BAD_FRAME, 0)


@cocotb.test(skip=LEDS, timeout_time=WATCHDOG_MS, timeout_unit="ms")
async def reset_while_sending(dut):
    """The button at any moment of a reply: whole bytes arrive, then silence until the next."""
    host = Host(dut, "sending")
    await host.restart()
    for press in range(host.values["presses"]):
        await host.check(fresh=True)
        request, data = host.echo(3)
        host.advance(request)
        full = reply_bytes(host.seq, host.epoch, data)
        host.source.write_nowait(request.encode(host.seq))
        await FallingEdge(dut.tx)
        length = 10 * len(full) * host.bit
        await host.wait(length * (press + 0.9 * host.rng.random()) / host.values["presses"])
        await host.press()
        pressed = get_sim_time("ns")
        await host.wait(max(length, (host.values["reset_cycles"] + 20) * host.period))
        assert dut.tx.value == 1 and host.edges[-1][1] == 1
        # one byte and what the reset takes to be seen
        assert host.edges[-1][0] - pressed < 10.5 * host.bit + 6 * host.period
        part = bytes(host.sink.read_nowait())
        assert full.startswith(part)
        host.splitter = Splitter()
    await host.check(fresh=True)


def reply_bytes(seq: int, epoch: int, data: list[int]) -> bytes:
    """The frame that answers request `seq` with these words."""
    header = program.pack_words(registers.REPLY, {
        "version": registers.PROTOCOL, "reply": 1, "unused": 0, "status": Status.OK,
        "seq": seq, "expected": seq + 1 & 0xFFFF, "count": len(data), "cycles": 0,
        "epoch": epoch})
    return encode_frame(words([*header, *data]))


@cocotb.test(skip=LEDS, timeout_time=WATCHDOG_MS, timeout_unit="ms")
async def held_in_reset(dut):
    """Button held, PLL not locked: nothing leaves, heartbeat steady; both reset the state."""
    host = Host(dut, "held")
    await host.restart()
    for pin, active in ((dut.reset_button, 1), (dut.locked, 0)):
        await host.check(fresh=True)
        await host.set_rate(host.baud // 2)   # which the reset must undo
        edges = len(host.edges)
        pin.value = active
        host.source.write_nowait(Request(sync=True).encode(1))
        await host.source.wait()
        await host.wait(50 * host.bit)
        assert len(host.edges) == edges and dut.tx.value == 1
        assert dut.leds.value == HEARTBEAT
        pin.value = 1 - active
        await ClockCycles(dut.clk, host.values["reset_cycles"] + 20)
        host.connect(host.values["baud"])


@cocotb.test(skip=LEDS, timeout_time=WATCHDOG_MS, timeout_unit="ms")
async def random_noise(dut):
    """Whatever comes in, the board sends nothing but NAKs, and the next request is done."""
    host = Host(dut, "noise")
    await host.restart()
    for _ in range(150):
        dut.rx.value = int(host.rng.integers(2))
        await host.wait(host.bit * 6 * host.rng.random())
    dut.rx.value = 1
    await host.wait(12 * host.bit)
    host.source.write_nowait(b"\0")
    await host.wait(host.bit * 10 * 60)
    assert not host.sink.empty()
    for frame in Splitter().feed(bytes(host.sink.read_nowait())):
        try:
            assert Reply.decode(frame).status == Status.BAD_FRAME
        except FrameError as error:
            raise AssertionError(f"a damaged frame from the board: {error}") from None
    await host.check()


@cocotb.test(skip=not LEDS, timeout_time=2_000_000, timeout_unit="ms")
async def leds(dut):
    """Heartbeat 1 Hz, half on; activity 50 ms after a byte; error 1 s after an error."""
    host = Host(dut, "leds")
    await ClockCycles(dut.clk, host.values["reset_cycles"])
    second = host.config.clock_hz * host.period
    rises, states = [], []
    start = get_sim_time("ns")
    while get_sim_time("ns") - start < 2.2 * second:
        await host.wait(second / 400)
        level = int(dut.leds.value) & HEARTBEAT
        if states and level and not states[-1]:
            rises.append(get_sim_time("ns"))
        states.append(level)
        assert not int(dut.leds.value) & (ACTIVITY | ERROR)
    assert len(rises) == 2 and abs(rises[1] - rises[0] - second) < 0.01 * second
    assert abs(sum(states) / len(states) - 0.5) < 0.06

    async def lit(mask: int) -> float:
        """How long an LED that is lit now stays so, in seconds."""
        begin = get_sim_time("ns")
        while int(dut.leds.value) & mask:
            await host.wait(second / 400)
        return (get_sim_time("ns") - begin) / second

    host.connect(host.baud)
    host.source.write_nowait(b"\1")
    await RisingEdge(host.dut.rx)
    await host.wait(12 * host.bit)
    assert int(dut.leds.value) == int(dut.leds.value) & HEARTBEAT | ACTIVITY
    assert 0.04 < await lit(ACTIVITY) < 0.06
    host.source.write_nowait(b"\5\0")     # a frame that breaks off
    await host.source.wait()
    await host.wait(10 * host.bit)
    assert int(dut.leds.value) & ERROR and int(dut.leds.value) & ACTIVITY
    assert 0.98 < await lit(ERROR) < 1.02
