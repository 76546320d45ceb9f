# amaranth: UnusedElaboratable=no
"""The link's gateware at its byte streams, with a stand-in core, against the host's protocol."""

import contextlib
import random
import warnings
import zlib

import numpy as np
import pytest
from amaranth.sim import Simulator

from hw import program, registers
from hw.config import PRESETS
from hw.framing import CobsEncoder, FrameReceiver, FrameSender
from hw.link import RegisterFile
from hw.registers import PROTOCOL, REQUEST, Register, Space, Status
from hw.top import Top
from hw.uart import divisor_for
from sw.board import packing
from sw.board.protocol import (
    MAX_PAYLOAD,
    FrameError,
    Read,
    Reply,
    Request,
    Run,
    Splitter,
    Write,
    cobs_encode,
    decode_frame,
    digest,
    encode_frame,
)

from .stand_in import LAYER_CYCLES, STUCK, StandInCore

TINY = PRESETS["tiny"]
TIMEOUT = 40_000
"""Cycles after which a bench gives up."""

STALLS = {"full speed": (0, 0), "slow input": (0.7, 0), "slow output": (0, 0.7), "both": (0.4, 0.4)}
"""Chance that a byte is held back in a cycle: on the way in, on the way out."""


def simulate(design, testbench):
    simulator = Simulator(design)
    simulator.add_clock(1e-8)
    simulator.add_testbench(testbench)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulator.run()


class Host:
    """Sends bytes to `Top` and collects its replies, stalling at random (seeded)."""

    def __init__(self, ctx, top, stalls=(0, 0), seed=0):
        self.ctx, self.top = ctx, top
        self.slow_in, self.slow_out = stalls
        self.random = random.Random(seed)
        self.splitter, self.queue, self.replies = Splitter(), bytearray(), []
        self.cycle = 0
        self.held = None

    async def step(self):
        ctx, rx, tx = self.ctx, self.top.rx, self.top.tx
        give = bool(self.queue) and self.random.random() >= self.slow_in
        take = self.random.random() >= self.slow_out
        ctx.set(rx.valid, give)
        if give:
            ctx.set(rx.payload, self.queue.pop(0))
            assert ctx.get(rx.ready)
        ctx.set(tx.ready, take)
        if ctx.get(tx.valid):
            byte = ctx.get(tx.payload)
            assert self.held in (None, byte), "a waiting byte changed"
            self.held = None if take else byte
            if take:
                for frame in self.splitter.feed(bytes([byte])):
                    self.replies.append(Reply.decode(frame))
        else:
            assert self.held is None, "a waiting byte was withdrawn"
        await ctx.tick()
        self.cycle += 1

    async def collect(self, count):
        """The next `count` replies."""
        limit = self.cycle + TIMEOUT
        while len(self.replies) < count:
            await self.step()
            assert self.cycle < limit, f"{len(self.replies)} of {count} replies"
        got, self.replies = self.replies[:count], self.replies[count:]
        return got

    async def ask(self, request, seq):
        self.queue += request.encode(seq) if isinstance(request, Request) else request
        return (await self.collect(1))[0]

    async def quiet(self, cycles=200):
        for _ in range(cycles):
            await self.step()
        assert not self.replies


def on_top(stalls=(0, 0), seed=0):
    """Decorator: run the test's coroutine with a Host on a `Top`."""
    def run(test):
        def wrapper():
            top = Top(TINY, core=StandInCore(TINY), build=0x0123_4567_89AB_CDEF)

            async def testbench(ctx):
                host = Host(ctx, top, stalls, seed)
                reply = await host.ask(Request(sync=True), 0xFFFF)
                assert (reply.status, reply.expected) == (Status.OK, 0)
                await test(host)
            simulate(top, testbench)
        wrapper.__name__, wrapper.__doc__ = test.__name__, test.__doc__
        return wrapper
    return run


def words(*values):
    return np.array(values, np.uint32)


def sequence(count, seed=1):
    return np.random.default_rng(seed).integers(0, 1 << 32, count, np.uint32)


def program_of(layers):
    return Write(Space.PROGRAM, 5, words(layers))


@on_top()
async def test_identity_and_registers(host):
    reply = await host.ask(Request(read=Read(Space.REGISTER, 0, len(Register))), 0)
    identity = registers.identity(TINY)
    assert reply.words[:5].tolist() == [registers.MAGIC, PROTOCOL, identity & 0xFFFFFFFF,
                                        identity >> 32, TINY.clock_hz]
    assert reply.words[Register.FRAMES] == 2 and reply.words[Register.BAD_FRAMES] == 0
    build = reply.words[Register.BUILD_LOW:Register.BUILD_HIGH + 1]
    assert build.tolist() == [0x89ABCDEF, 0x01234567]
    reply = await host.ask(Request(Write(Space.REGISTER, Register.DIVISOR, words(100)),
                                   read=Read(Space.REGISTER, Register.DIVISOR, 1)), 1)
    assert host.ctx.get(host.top.divisor) == 100 and reply.words.tolist() == [100]
    await host.ask(Request(Write(Space.REGISTER, Register.DIVISOR, words(3))), 2)
    assert host.ctx.get(host.top.divisor) == 100, "a divisor that cannot work was taken"
    host.ctx.set(host.top.restore_divisor, 1)
    await host.quiet(3)
    assert host.ctx.get(host.top.divisor) == divisor_for(TINY.clock_hz, registers.DEFAULT_BAUD)


@pytest.mark.parametrize("ethernet", [False, True])
def test_the_address_of_a_board_with_ethernet(ethernet):
    top = Top(TINY, core=StandInCore(TINY), ethernet=ethernet)

    async def testbench(ctx):
        host, first = Host(ctx, top), registers.FIRST_IP if ethernet else 0
        assert (await host.ask(Request(sync=True, read=Read(Space.REGISTER, Register.IP, 1)),
                               0)).words.tolist() == [first]
        for seq, refused in enumerate((0, 0x00FFFFFF, 0x7F000001, 0xE0000001, 0xFFFFFFFF), 1):
            await host.ask(Request(Write(Space.REGISTER, Register.IP, words(refused))), seq)
            assert ctx.get(top.ip) == first, hex(refused)
        await host.ask(Request(Write(Space.REGISTER, Register.IP, words(0x0A000007))), 6)
        assert ctx.get(top.ip) == (0x0A000007 if ethernet else 0)
    simulate(top, testbench)


@pytest.mark.parametrize("stalls", STALLS)
def test_write_and_read_back(stalls):
    @on_top(STALLS[stalls], seed=len(stalls))
    async def bench(host):
        seq = 0
        for space in (Space.MAP, Space.WEIGHT, Space.PROGRAM):
            data = sequence(70, seed=space)
            data[3:40:2] = 0
            reply = await host.ask(Request(Write(space, 11, data), read=Read(space, 11, 70)), seq)
            assert reply.status == Status.OK and reply.seq == seq and reply.expected == seq + 1
            assert (reply.words == data).all()
            seq += 1
        reply = await host.ask(Request(read=Read(Space.PROGRAM, 11, 10, stride=7)), seq)
        assert (reply.words == data[::7]).all()
    bench()


@on_top()
async def test_mask_of_the_gate(host):
    mask = sequence(TINY.gate_tokens // 32)
    reply = await host.ask(Request(Write(Space.GATE, 0, mask),
                                   read=Read(Space.GATE, 0, len(mask))), 0)
    assert reply.status == Status.OK and (reply.words == mask).all()


@on_top()
async def test_expanded_write(host):
    data = words(0x8000_0001, 0x1234_5678)
    reply = await host.ask(Request(Write(Space.MAP, 8, data, expand=0b0101),
                                   read=Read(Space.MAP, 8, 8)), 0)
    bits = [int(word) >> i & 1 for word in data for i in range(32)]
    assert reply.words.tolist() == [
        sum(0b0101 * bits[8 * word + i] << 4 * i for i in range(8)) for word in range(8)]


@pytest.mark.parametrize("stalls", STALLS)
@pytest.mark.parametrize("density", [0, 0.02, 0.5])
def test_packed_write(density, stalls):
    """What is written is the words, in one frame or many, and nothing beside them."""
    @on_top(STALLS[stalls], seed=int(100 * density))
    async def bench(host):
        rng = np.random.default_rng(int(100 * density))
        seq = 0
        for expand in (0, 6):
            masks = (rng.random((45, 8)) < density) * (expand or rng.integers(1, 16, (45, 8)))
            data, before = packing.to_words(masks), sequence(48)
            jobs = [Write(Space.MAP, 7, before), *packing.writes(
                Space.MAP, 8, data, size=16 if expand else 480, forms=("packed",))]
            for write in jobs:
                read = Read(Space.MAP, 7, 48) if write is jobs[-1] else None
                reply = await host.ask(Request(write, read=read), seq)
                assert reply.status == Status.OK
                seq += 1
            assert reply.words.tolist() == [before[0], *data, *before[46:]]
    bench()


@on_top()
async def test_packed_write_that_is_too_short_or_too_long(host):
    """Bytes that are missing are zeros, those behind the last word are ignored."""
    await host.ask(Request(Write(Space.MAP, 0, sequence(40))), 0)
    write = Write(Space.MAP, 1, words(0x34_12_03_01, 0x0F_0F_0F_0F), packed=20)
    reply = await host.ask(Request(write, read=Read(Space.MAP, 0, 24)), 1)
    assert reply.words.tolist() == packed_memory(write)
    write = Write(Space.MAP, 1, sequence(200), packed=3)
    reply = await host.ask(Request(write, read=Read(Space.MAP, 0, 24)), 2)
    assert reply.words[4:].tolist() == packed_memory(Write(Space.MAP, 1, words(
        0x34_12_03_01, 0x0F_0F_0F_0F), packed=20))[4:]
    assert reply.words[:4].tolist() == packed_memory(write)[:4]
    write = Write(Space.MAP, 1, words(), packed=20)
    reply = await host.ask(Request(write, read=Read(Space.MAP, 0, 24)), 3)
    assert reply.words.tolist() == [sequence(40)[0], *[0] * 20, *sequence(40)[21:24]]
    reply = await host.ask(raw(4, [0], packed=1, write=1, read=1, read_count=3, read_stride=1), 4)
    assert reply.status == Status.OK and reply.words.tolist() == [sequence(40)[0], 0, 0]


def packed_memory(write):
    """Words 0 to 23 of a memory of `sequence(40)` after a packed write, by its definition."""
    memory = sequence(40)
    data = write.words.astype("<u4").tobytes()
    memory[write.address:write.address + write.packed] = packing.to_words(
        packing.unpack(data, write.packed, write.expand))
    return memory[:24].tolist()


@on_top()
async def test_packed_write_is_not_repeated(host):
    write = Write(Space.MAP, 0, words(0x08_01_01), packed=1)
    await host.ask(Request(write), 0)
    await host.ask(Request(Write(Space.MAP, 0, words(5))), 1)
    reply = await host.ask(Request(write, read=Read(Space.MAP, 0, 1)), 1)
    assert reply.status == Status.OK and reply.words.tolist() == [5]
    reply = await host.ask(Request(write, read=Read(Space.MAP, 0, 1)), 7)
    assert reply.status == Status.ORDER
    reply = await host.ask(Request(write, read=Read(Space.MAP, 0, 1)), 2)
    assert reply.words.tolist() == [8]


@pytest.mark.parametrize("seed", range(4))
def test_any_bytes_in_a_packed_write(seed):
    """Streams that no encoder makes: memory as the format says, and the board goes on."""
    @on_top(seed=seed)
    async def bench(host):
        rng = np.random.default_rng(seed)
        memory = np.zeros(64, np.uint32)
        for seq in range(12):
            data = rng.integers(0, 256, 4 * int(rng.integers(0, 20)), np.uint8)
            data[rng.random(len(data)) < rng.choice([0, 0.5, 0.9])] = 0
            write = Write(Space.MAP, int(rng.integers(0, 10)), data.view("<u4"),
                          int(rng.choice([0, 0, 9])), packed=int(rng.integers(1, 50)))
            reply = await host.ask(Request(write, read=Read(Space.MAP, 0, 64)), seq)
            memory[write.address:write.address + write.packed] = packing.to_words(
                packing.unpack(data.tobytes(), write.packed, write.expand))
            assert reply.status == Status.OK and (reply.words == memory).all()
    bench()


@on_top()
async def test_run_answers_with_its_cycles_and_results(host):
    await host.ask(Request(program_of(3)), 0)
    reply = await host.ask(Request(Write(Space.MAP, 0, words(100)), Run(start=5),
                                   Read(Space.MAP, 0, 1)), 1)
    assert reply.words.tolist() == [103]
    assert 3 * LAYER_CYCLES <= reply.cycles <= 3 * LAYER_CYCLES + 5
    reply = await host.ask(Request(run=Run(start=5, stop_after=2), read=Read(Space.MAP, 0, 1)), 2)
    assert reply.words.tolist() == [105]
    reply = await host.ask(Request(read=Read(Space.COUNTER, 0, 3, registers.COUNTER_WORDS)), 3)
    assert reply.words.tolist() == [LAYER_CYCLES] * 3


@on_top()
async def test_a_run_that_does_not_end_is_stopped(host):
    await host.ask(Request(program_of(STUCK)), 0)
    for seq in (1, 1):  # the repeated question gets the same answer
        reply = await host.ask(Request(run=Run(5, max_cycles=300), read=Read(Space.MAP, 0, 1)), seq)
        assert reply.status == Status.TIMEOUT and len(reply.words) == 0 and reply.cycles == 301
    await host.ask(Request(program_of(1)), 2)
    reply = await host.ask(Request(run=Run(5)), 3)
    assert reply.status == Status.OK


@on_top()
async def test_repeated_frame_is_answered_but_not_done_again(host):
    await host.ask(Request(program_of(1)), 0)
    request = Request(Write(Space.MAP, 0, words(7)), Run(5), Read(Space.MAP, 0, 1))
    first = await host.ask(request, 1)
    again = await host.ask(request, 1)
    other = await host.ask(Request(run=Run(5), read=Read(Space.MAP, 0, 1)), 1)
    for reply in (again, other):
        assert (reply.status, reply.seq, reply.cycles) == (Status.OK, 1, first.cycles)
        assert reply.words.tolist() == first.words.tolist() == [8]


@on_top()
async def test_frames_out_of_order_are_refused(host):
    await host.ask(Request(Write(Space.MAP, 0, words(1))), 0)
    for seq in (2, 3, 0x8000, 0xFFFF):
        reply = await host.ask(Request(Write(Space.MAP, 0, words(9)), read=Read(Space.MAP, 0, 1)),
                               seq)
        assert (reply.status, reply.seq, reply.expected) == (Status.ORDER, seq, 1)
        assert len(reply.words) == 0
    reply = await host.ask(Request(read=Read(Space.MAP, 0, 1)), 1)
    assert reply.words.tolist() == [1]


@on_top()
async def test_sync_sets_the_sequence_anew(host):
    reply = await host.ask(Request(read=Read(Space.REGISTER, 0, 1)), 0)
    assert (reply.status, reply.expected) == (Status.OK, 1)
    reply = await host.ask(Request(sync=True), 77)
    assert reply.expected == 78


@on_top()
async def test_damaged_frames_have_no_effect_and_are_reported(host):
    await host.ask(Request(Write(Space.MAP, 0, words(1, 2, 3))), 0)
    good = Request(Write(Space.MAP, 0, words(0x11, 0x22, 0x33))).encode(1)
    rng = random.Random(1)
    for _ in range(40):
        bad = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            bad[rng.randrange(len(bad) - 1)] ^= rng.randint(1, 255)
        if rng.random() < 0.3:
            del bad[rng.randrange(len(bad) - 1)]
        if bad[:-1] == good[:-1]:
            continue
        host.queue += bad + b"\0"
        await host.quiet_or_errors()
    reply = await host.ask(Request(read=Read(Space.MAP, 0, 3)), 1)
    assert reply.words.tolist() == [1, 2, 3]


async def quiet_or_errors(self):
    """Let the board answer; every answer says that a frame was damaged."""
    limit = self.cycle + TIMEOUT
    while self.queue or self.ctx.get(self.top.busy):
        await self.step()
        assert self.cycle < limit
    await self.step()
    assert {reply.status for reply in self.replies} <= {Status.BAD_FRAME}
    assert self.replies
    self.replies.clear()


Host.quiet_or_errors = quiet_or_errors


def header(**values):
    fields = {"version": PROTOCOL, "reply": 0, "sync": 0, "write": 0, "run": 0, "read": 0,
              "digest": 0, "packed": 0, "unused": 0, "seq": 0, "write_addr": 0, "write_space": 0,
              "expand": 0, "read_addr": 0, "read_space": 0, "read_count": 0, "read_stride": 0,
              "start": 0, "stop_after": 0, "max_cycles": 0} | values
    return program.pack_words(REQUEST, fields)


def raw(seq, payload=(), **values):
    """A frame of any header and payload."""
    return encode_frame(np.array([*header(seq=seq, **values), *payload], np.uint32))


@on_top()
async def test_requests_that_cannot_be_done(host):
    sizes = registers.space_words(TINY)
    bad = [
        (Request(Write(Space.MAP, sizes[Space.MAP] - 1, words(1, 2))), Status.RANGE),
        (Request(Write(Space.MAP, sizes[Space.MAP] - 7, words(1, 2), 15)), Status.RANGE),
        (Request(Write(Space.PROGRAM, 0xFFFFFF, words(1))), Status.RANGE),
        (Request(Write(Space.COUNTER, 0, words(1))), Status.BAD_REQUEST),
        (header(write=1, write_space=9), Status.BAD_REQUEST),
        (Request(Write(Space.GATE, sizes[Space.GATE] - 1, words(1, 2))), Status.RANGE),
        (header(read=1, read_space=6, read_count=1), Status.BAD_REQUEST),
        (header(digest=1), Status.BAD_REQUEST),
        (header(unused=4), Status.BAD_REQUEST),
        ([*header(), 1], Status.BAD_REQUEST),
        (Request(Write(Space.MAP, sizes[Space.MAP] - 1, words(0xFF01), 15, packed=2)),
         Status.RANGE),
        (Request(Write(Space.MAP, 0, words(0xFF01), packed=1 << 24)), Status.RANGE),
        (Request(Write(Space.MAP, 0xFFFFFF, words(0xFF01), packed=0xFFFFFF)), Status.RANGE),
        (Request(Write(Space.COUNTER, 0, words(0xFF01), packed=1)), Status.BAD_REQUEST),
        (header(write=1, packed=1), Status.BAD_REQUEST),
        ([*header(packed=1), 1], Status.BAD_REQUEST),
        (header(unused=1), Status.BAD_REQUEST),
        (header(version=1), Status.VERSION),
        (header(reply=1), Status.VERSION),
    ]
    seq = 0
    for request, status in bad:
        if not isinstance(request, Request):
            request[0] |= seq << 16
            request = encode_frame(np.array(request, np.uint32))
        for _ in range(2):
            reply = await host.ask(request, seq)
            assert (reply.status, len(reply.words)) == (status, 0)
        seq += status != Status.VERSION
    reply = await host.ask(Request(Write(Space.MAP, sizes[Space.MAP] - 4, words(5), 15),
                                   read=Read(Space.MAP, sizes[Space.MAP] - 4, 6)), seq)
    assert reply.words.tolist() == [0xF0F, 0, 0, 0, 0, 0], "outside reads give zeros"


def test_long_expanded_write_to_small_memories():
    """More words than any memory holds are no small number modulo a power of two."""
    micro = PRESETS["micro"]
    top = Top(micro, core=StandInCore(micro))

    async def testbench(ctx):
        host = Host(ctx, top)
        await host.ask(Request(sync=True), 0)
        reply = await host.ask(Request(Write(Space.MAP, 0, sequence(260), 15)), 1)
        assert reply.status == Status.RANGE
    simulate(top, testbench)


@pytest.mark.parametrize("count", [0, 1, 50])
def test_digest_of_a_memory(count):
    @on_top((0, 0.3))
    async def bench(host):
        data = sequence(50)
        await host.ask(Request(Write(Space.WEIGHT, 3, data)), 0)
        reply = await host.ask(Request(read=Read(Space.WEIGHT, 3, count, digest=True)), 1)
        assert reply.words.tolist() == [digest(data[:count])]
        reply = await host.ask(Request(read=Read(Space.WEIGHT, 3, 5)), 2)
        assert (reply.words == data[:5]).all()
        host.queue += Request(read=Read(Space.WEIGHT, 3, 5)).encode(3)
        host.queue += Request(read=Read(Space.WEIGHT, 13, 5, digest=True)).encode(4)
        replies = await host.collect(2)
        assert replies[1].words.tolist() == [digest(data[10:15])]
    bench()


@on_top()
async def test_longest_frame_and_the_next_longer(host):
    data = sequence(MAX_PAYLOAD)
    frame = Request(Write(Space.MAP, 0, data)).encode(0)
    assert 4 * MAX_PAYLOAD / len(frame) > 0.97, "share of payload in a bulk frame"
    start = host.cycle
    reply = await host.ask(frame, 0)
    assert reply.status == Status.OK
    assert host.cycle - start < len(frame) + MAX_PAYLOAD + 100, "slower than the bytes come"
    too_long = encode_frame(np.array([*header(write=1, seq=1), *data, 0], np.uint32))
    assert (await host.ask(too_long, 1)).status == Status.BAD_FRAME
    reply = await host.ask(Request(read=Read(Space.MAP, MAX_PAYLOAD - 2, 2)), 1)
    assert (reply.words == data[-2:]).all()


@on_top()
async def test_short_frames_are_refused(host):
    for count in range(6):
        reply = await host.ask(encode_frame(np.array(header()[:count], np.uint32)), 0)
        assert reply.status == Status.BAD_FRAME
    host.queue += b"\0\0\0\0"
    await host.quiet()


@on_top()
async def test_back_to_back_frames_are_all_answered(host):
    frames = [Request(Write(Space.MAP, 8 * i, sequence(8, i))).encode(i) for i in range(8)]
    host.queue += b"".join(frames)
    replies = await host.collect(8)
    assert [(r.status, r.seq, r.expected) for r in replies] == [
        (Status.OK, i, i + 1) for i in range(8)]
    reply = await host.ask(Request(read=Read(Space.MAP, 0, 64)), 8)
    assert (reply.words == np.concatenate([sequence(8, i) for i in range(8)])).all()


@on_top()
async def test_overrun_is_reported_and_survived(host):
    await host.ask(Request(program_of(STUCK)), 0)
    host.queue += Request(run=Run(5, max_cycles=9000)).encode(1)
    for seq in range(2, 6):  # the run holds them up; the third does not fit
        host.queue += Request(Write(Space.MAP, 0, np.full(450, seq, np.uint32))).encode(seq)
    replies = await host.collect(4)
    assert [(r.status, r.seq) for r in replies] == [
        (Status.TIMEOUT, 1), (Status.OVERRUN, 2), (Status.OK, 2), (Status.OK, 3)]
    await host.quiet()
    reply = await host.ask(Request(read=Read(Space.MAP, 449, 2)), 4)
    assert reply.words.tolist() == [3, 0]
    reply = await host.ask(Request(read=Read(Space.REGISTER, Register.OVERRUNS, 1)), 5)
    assert reply.words.tolist() == [2]


@on_top()
async def test_every_request_that_is_done_advances_the_epoch(host):
    """Writes of any space, runs and reads, once each; not what is refused, nor a bare `sync`."""
    epoch = 0
    await host.ask(Request(program_of(STUCK)), 0)
    epoch = registers.next_epoch(epoch, zlib.crc32(Request(program_of(STUCK)).frame(0)))
    steps = [
        (Request(Write(Space.WEIGHT, 0, words(1, 2))), 1, Status.OK, True),
        (Request(Write(Space.WEIGHT, 0, words(1, 2))), 1, Status.OK, False),       # again
        (Request(Write(Space.WEIGHT, 0, words(3))), 1, Status.OK, False),    # taken for the same
        (Request(Write(Space.WEIGHT, 0, words(1, 2))), 9, Status.ORDER, False),
        (Request(run=Run(5, max_cycles=50)), 2, Status.TIMEOUT, True),
        (Request(read=Read(Space.MAP, 0, 2)), 3, Status.OK, True),
        (Request(read=Read(Space.MAP, 0, 2, digest=True)), 4, Status.OK, True),
        (Request(Write(Space.MAP, 0xFFFFFF, words(1))), 5, Status.RANGE, True),
        (Request(sync=True), 70, Status.OK, False),
        (Request(sync=True, read=Read(Space.MAP, 0, 2)), 80, Status.OK, False),
        (Request(Write(Space.REGISTER, 0, words(1)), sync=True), 80, Status.OK, True),
        (Request(Write(Space.MAP, 0, words(0xFF01), 15, packed=2)), 81, Status.OK, True),
        (Request(run=Run(5, max_cycles=5), sync=True), 0xFFFF, Status.TIMEOUT, True),
        (Request(), 0, Status.OK, True),
        (raw(1, reply=1), 1, Status.VERSION, False),
        (b"\5\1\0", 1, Status.BAD_FRAME, False),
    ]
    for request, seq, status, counts in steps:
        reply = await host.ask(request, seq)
        if counts:
            epoch = registers.next_epoch(epoch, zlib.crc32(request.frame(seq)))
        assert (reply.status, reply.epoch) == (status, epoch), request
    assert epoch


def test_repeated_foreign_frames_never_bring_an_epoch_back():
    epochs, epoch = set(), 0x1234_5678
    for _ in range(3000):
        epochs.add(epoch)
        epoch = registers.next_epoch(epoch, 0x0BAD_F00D)
    assert len(epochs) == 3000


@on_top()
async def test_sync_ends_a_run_and_what_waits_before_it(host):
    await host.ask(Request(program_of(STUCK)), 0)
    await host.ask(Request(Write(Space.MAP, 0, words(7))), 1)
    run = Request(run=Run(5))
    host.queue += run.encode(2)
    for seq in (3, 4):
        host.queue += Request(Write(Space.MAP, 0, words(9)), Run(5)).encode(seq)
    host.queue += Request(sync=True, read=Read(Space.MAP, 0, 1)).encode(900)
    start = host.cycle
    replies = await host.collect(4)
    assert host.cycle - start < 400, "2^32 cycles are not waited for"
    assert [(r.status, r.seq, r.expected) for r in replies] == [
        (Status.STOPPED, 2, 3), (Status.STOPPED, 3, 3), (Status.STOPPED, 4, 3),
        (Status.OK, 900, 901)]
    assert replies[3].words.tolist() == [7]
    assert len({reply.epoch for reply in replies}) == 1
    await host.ask(Request(program_of(2)), 901)
    reply = await host.ask(Request(run=Run(5), read=Read(Space.MAP, 0, 1)), 902)
    assert (reply.status, reply.words.tolist()) == (Status.OK, [9])


@on_top()
async def test_sync_behind_sync_and_runs_behind_both(host):
    """The last one counts; what comes behind it is done although it was there before it."""
    await host.ask(Request(program_of(STUCK)), 0)
    host.queue += Request(run=Run(5)).encode(1)
    host.queue += Request(sync=True, run=Run(5)).encode(100)
    host.queue += Request(Write(Space.PROGRAM, 5, words(3)), sync=True).encode(200)
    host.queue += Request(run=Run(5), read=Read(Space.MAP, 0, 1)).encode(201)
    replies = await host.collect(4)
    assert [(r.status, r.seq) for r in replies] == [
        (Status.STOPPED, 1), (Status.STOPPED, 100), (Status.OK, 200), (Status.OK, 201)]
    assert replies[3].words.tolist() == [3]


@on_top()
async def test_sync_that_finds_no_room_ends_the_run_all_the_same(host):
    await host.ask(Request(program_of(STUCK)), 0)
    host.queue += Request(run=Run(5)).encode(1)
    for seq in (2, 3):
        host.queue += Request(Write(Space.MAP, 0, np.full(500, seq, np.uint32))).encode(seq)
    host.queue += Request(sync=True).encode(900)
    replies = await host.collect(4)
    assert sorted((r.status, r.seq) for r in replies) == sorted([
        (Status.STOPPED, 1), (Status.OVERRUN, 2), (Status.STOPPED, 2), (Status.STOPPED, 3)])
    reply = await host.ask(Request(Write(Space.PROGRAM, 5, words(1)), Run(5), sync=True), 900)
    assert reply.status == Status.OK


@on_top((0, 0.9))
async def test_sync_breaks_off_a_long_read(host):
    """The reply ends early, which its header contradicts; nothing else is lost."""
    host.queue += Request(read=Read(Space.MAP, 0, 0xFFFF)).encode(0)
    for _ in range(3000):
        await host.step()
    host.queue += Request(sync=True).encode(900)
    limit = host.cycle + 20_000
    while not host.replies:
        await host.step_past_damage()
        assert host.cycle < limit
    assert [(r.status, r.seq) for r in host.replies] == [(Status.OK, 900)]
    host.replies.clear()
    reply = await host.ask(Request(read=Read(Space.REGISTER, 0, 1)), 901)
    assert reply.words.tolist() == [registers.MAGIC]


async def step_past_damage(self):
    with contextlib.suppress(FrameError):
        await self.step()


Host.step_past_damage = step_past_damage


@pytest.mark.parametrize("seed", range(6))
def test_in_step_after_one_zero_whatever_came_before(seed):
    @on_top()
    async def bench(host):
        rng = random.Random(seed)
        frame = Request(read=Read(Space.REGISTER, 0, 3), sync=True).encode(9)
        for _ in range(4):
            if rng.random() < 0.5:
                garbage = rng.randbytes(rng.randint(1, 300))
            else:  # a frame that breaks off
                garbage = frame[:rng.randrange(1, len(frame))]
            host.queue += garbage + b"\0" + frame
            limit = host.cycle + TIMEOUT
            while not (host.replies and host.replies[-1].status == Status.OK):
                await host.step()
                assert host.cycle < limit
            assert host.replies[-1].seq == 9
            assert {r.status for r in host.replies[:-1]} <= {Status.BAD_FRAME}
            host.replies.clear()
    bench()


def test_mutated_frames_never_hang_the_board():
    """Whatever comes, the next good request is answered, and memory holds what good frames say."""
    @on_top()
    async def bench(host):
        rng = random.Random(11)
        await host.ask(Request(program_of(1)), 0)
        for _ in range(60):
            data = words(*(rng.getrandbits(32) for _ in range(rng.randint(1, 4))))
            request = Request(
                Write(Space.MAP, 0, data),
                Run(5, max_cycles=100) if rng.random() < 0.5 else None,
                Read(Space.MAP, 0, rng.randint(0, 3), digest=rng.random() < 0.3))
            frame = bytearray(request.encode(rng.choice([1, 0, 2])))
            for _ in range(rng.randint(1, 4)):
                where = rng.randrange(len(frame))
                match rng.randrange(4):
                    case 0:
                        frame[where] ^= 1 << rng.randrange(8)
                    case 1:
                        frame[where:where] = rng.randbytes(rng.randint(1, 5))
                    case 2:
                        del frame[where:where + rng.randint(1, 5)]
                    case 3:
                        frame += frame[where:]
                frame = frame or bytearray(b"\0")
            host.queue += frame
        host.queue += b"\0" + Request(sync=True, read=Read(Space.REGISTER, 0, 1)).encode(500)
        limit = host.cycle + TIMEOUT
        while not (host.replies and host.replies[-1].expected == 501):
            await host.step()
            assert host.cycle < limit
        assert host.replies[-1].words.tolist() == [registers.MAGIC]
    bench()


@pytest.mark.parametrize("stalls", STALLS)
def test_sender_against_the_host(stalls):
    slow_in, slow_out = STALLS[stalls]
    rng = random.Random(stalls)
    frames = [[rng.getrandbits(32) if rng.random() < 0.7 else 0 for _ in range(count)]
              for count in (1, 2, 3, 70, 127, 128, 1)]
    frames += [[0x01010101] * 63, [0x01010101] * 64, [0x01010101] * 130, [0] * 70]
    sender = FrameSender()
    got, splitter = [], Splitter()

    async def testbench(ctx):
        queue = [(word, i == len(frame) - 1) for frame in frames for i, word in enumerate(frame)]
        for _ in range(TIMEOUT):
            give = bool(queue) and rng.random() >= slow_in
            take = rng.random() >= slow_out
            ctx.set(sender.i.valid, give)
            if give:
                ctx.set(sender.i.payload.data, queue[0][0])
                ctx.set(sender.i.payload.last, queue[0][1])
            ctx.set(sender.o.ready, take)
            if take and ctx.get(sender.o.valid):
                got.extend(splitter.feed(bytes([ctx.get(sender.o.payload)])))
            if give and ctx.get(sender.i.ready):
                queue.pop(0)
            if len(got) == len(frames):
                break
            await ctx.tick()
    simulate(sender, testbench)
    assert [decode_frame(frame).tolist() for frame in got] == frames


def test_receiver_needs_room_for_a_frame():
    with pytest.raises(ValueError, match="depth 512"):
        FrameReceiver(min_words=7, max_words=512, depth=512)


def test_divisor_is_checked():
    with pytest.raises(ValueError, match="divisor 5"):
        RegisterFile(TINY, divisor=5)
    with pytest.raises(ValueError, match="build -1"):
        RegisterFile(TINY, divisor=500, build=-1)


def test_board_asks_for_sync_after_reset():
    top = Top(TINY, core=StandInCore(TINY))

    async def testbench(ctx):
        host = Host(ctx, top)
        for seq in (0, 0, 0xFFFF, 1):
            reply = await host.ask(Request(read=Read(Space.REGISTER, 0, 1)), seq)
            assert (reply.status, len(reply.words)) == (Status.ORDER, 0)
        assert (await host.ask(Request(sync=True), 0)).status == Status.OK
    simulate(top, testbench)


def test_encoder_blocks():
    """Blocks of 254 bytes, the edge of the stuffing, in every alignment."""
    encoder = CobsEncoder()
    lengths = [253, 254, 255, 508, 509]
    out = bytearray()

    async def testbench(ctx):
        ctx.set(encoder.o.ready, 1)
        for length in lengths:
            for byte in [*[1] * length, None]:
                ctx.set(encoder.i.valid, 1)
                ctx.set(encoder.i.payload.data, byte or 0)
                ctx.set(encoder.i.payload.end, byte is None)
                taken = False
                while not taken:
                    taken = ctx.get(encoder.i.ready)
                    if ctx.get(encoder.o.valid):
                        out.append(ctx.get(encoder.o.payload))
                    await ctx.tick()
        ctx.set(encoder.i.valid, 0)
        for _ in range(600):
            if ctx.get(encoder.o.valid):
                out.append(ctx.get(encoder.o.payload))
            await ctx.tick()
        assert ctx.get(encoder.idle)
    simulate(encoder, testbench)
    assert bytes(out).split(b"\0")[:-1] == [cobs_encode(b"\1" * n) for n in lengths]
    with pytest.raises(FrameError):
        decode_frame(b"\1")
