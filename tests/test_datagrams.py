"""Who reaches the link by datagrams, and who is told what, at the ports of `hw.datagrams`."""

import random
import struct
import warnings

import pytest
from amaranth.sim import Simulator

from hw import registers
from hw.config import PRESETS
from hw.datagrams import REPLY_BYTES, Datagrams
from sw.board.protocol import Read, Request, cobs_encode

TINY = PRESETS["tiny"]
BUILD = 0x0123_4567_89AB_CDEF
A, B = (0xC0A80107, 40_000), (0xC0A80109, 50_001)
SYNC = Request(sync=True, read=Read(registers.Space.REGISTER, 0, 1)).encode(7)
PLAIN = Request(read=Read(registers.Space.REGISTER, 0, 1)).encode(8)


def announcement(data: bytes) -> dict:
    names = ("magic", "protocol", "port", "ip", "idle", "identity", "build", "clock")
    return dict(zip(names, struct.unpack("<4sHHIIQQI", data), strict=True))


class Lines:
    """Drives every port at random (seeded) and keeps what comes out."""

    def __init__(self, ctx, dut, seed):
        self.ctx, self.dut, self.random = ctx, dut, random.Random(seed)
        self.datagrams, self.serial, self.replies = [], bytearray(), bytearray()
        self.to_link, self.sent, self.to_serial = bytearray(), [], bytearray()
        self.sending = bytearray()
        self.place = self.break_now = 0

    async def step(self):
        ctx, dut, udp = self.ctx, self.dut, self.dut.udp
        chance = self.random.random
        if give := bool(self.datagrams) and chance() < 0.8:
            (ip, port), payload = self.datagrams[0]
            ctx.set(udp.rx_ip, ip)
            ctx.set(udp.rx_port, port)
            ctx.set(udp.rx.payload.data, payload[self.place])
            ctx.set(udp.rx.payload.last, self.place == len(payload) - 1)
        ctx.set(udp.rx.valid, give)
        ctx.set(udp.tx.ready, take := chance() < 0.8)
        ctx.set(dut.serial_rx.valid, serial := bool(self.serial) and chance() < 0.3)
        ctx.set(dut.serial_rx.payload, self.serial[0] if serial else 0)
        ctx.set(dut.link_tx.valid, reply := bool(self.replies) and chance() < 0.8)
        ctx.set(dut.link_tx.payload, self.replies[0] if reply else 0)
        ctx.set(dut.serial_tx.ready, serial_take := chance() < 0.8)
        ctx.set(dut.serial_broken, self.break_now)
        self.break_now = 0
        ctx.set(dut.link_rx.ready, 1)
        if ctx.get(dut.link_rx.valid):
            self.to_link.append(ctx.get(dut.link_rx.payload))
        if serial_take and ctx.get(dut.serial_tx.valid):
            self.to_serial.append(ctx.get(dut.serial_tx.payload))
        if reply and ctx.get(dut.link_tx.ready):
            del self.replies[0]
        if ctx.get(udp.tx.valid):
            to = ctx.get(udp.tx_ip), ctx.get(udp.tx_port), ctx.get(udp.tx_length)
            assert not self.sending or to == self.to
            self.to = to
            if take:
                self.sending.append(ctx.get(udp.tx.payload.data))
                if ctx.get(udp.tx.payload.last):
                    assert len(self.sending) == to[2]
                    self.sent.append((to[:2], bytes(self.sending)))
                    self.sending.clear()
        else:
            assert not self.sending
        if serial:
            del self.serial[0]
        if give and ctx.get(udp.rx.ready):
            self.place += 1
            if self.place == len(payload):
                self.place = 0
                del self.datagrams[0]
        await ctx.tick()

    async def through(self, *datagrams, serial=b"", replies=b"", more=400):
        """What came to the link, to the serial line, and the datagrams sent, of all this."""
        self.datagrams += datagrams
        self.serial += serial
        self.replies += replies
        while self.datagrams or self.serial or self.replies:
            await self.step()
        for _ in range(more):
            await self.step()
        got = bytes(self.to_link), bytes(self.to_serial), self.sent
        self.to_link, self.to_serial, self.sent = bytearray(), bytearray(), []
        return got

    async def cut(self):
        self.break_now = 1
        await self.through()


def on_datagrams(seed=1):
    def run(test):
        def wrapper():
            print(f"seed {seed}")
            dut = Datagrams(TINY, build=BUILD)

            async def bench(ctx):
                await test(Lines(ctx, dut, seed))

            simulator = Simulator(dut)
            simulator.add_clock(1e-8)
            simulator.add_testbench(bench)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                simulator.run()
        wrapper.__name__, wrapper.__doc__ = test.__name__, test.__doc__
        return wrapper
    return run


@on_datagrams()
async def test_the_serial_line_holds_the_board_at_first(lines):
    link, serial, sent = await lines.through(serial=PLAIN, replies=b"\x02\x07\x00")
    assert (link, serial, sent) == (PLAIN, b"\x02\x07\x00", [])
    link, serial, sent = await lines.through((A, PLAIN))
    assert (link, serial) == (b"", b"") and sent[0][0] == A
    told = announcement(sent[0][1])
    assert told["idle"] == 0 and told | {"idle": 0} == {
        "magic": b"SPKT", "protocol": registers.PROTOCOL, "port": 0, "ip": 0, "idle": 0,
        "identity": registers.identity(TINY), "build": BUILD, "clock": TINY.clock_hz}


@on_datagrams()
async def test_a_sync_makes_its_sender_the_holder(lines):
    link, serial, sent = await lines.through((A, SYNC), (A, PLAIN + PLAIN))
    assert (link, serial, sent) == (b"\0" + SYNC + b"\0" + PLAIN + PLAIN, b"", [])
    link, serial, sent = await lines.through(serial=PLAIN, replies=b"\x02\x07\x00\x01\x00")
    assert (link, serial, sent) == (b"", b"", [(A, b"\x02\x07\x00"), (A, b"\x01\x00")])
    # Another host, or another program of this one, is told who holds the board; then it takes it.
    for other in (B, (A[0], B[1]), (B[0], A[1])):
        link, _, sent = await lines.through((other, PLAIN))
        told = announcement(sent[0][1])
        assert link == b"" and sent[0][0] == other and (told["ip"], told["port"]) == A
    link, _, sent = await lines.through((B, SYNC), replies=b"\x02\x07\x00")
    assert link == b"\0" + SYNC and sent == [(B, b"\x02\x07\x00")]
    link, _, sent = await lines.through((A, PLAIN))
    assert link == b"" and sent[0][0] == A and announcement(sent[0][1])["ip"] == B[0]


@on_datagrams()
async def test_a_break_gives_the_board_back_to_the_serial_line(lines):
    await lines.through((A, SYNC))
    await lines.cut()
    link, serial, sent = await lines.through(serial=SYNC, replies=b"\x02\x07\x00")
    assert (link, serial, sent) == (SYNC, b"\x02\x07\x00", [])
    link, _, sent = await lines.through((A, PLAIN))
    assert link == b"" and announcement(sent[0][1])["ip"] == 0
    # Its next `sync` is in step although the line was within a frame.
    link, _, sent = await lines.through((A, SYNC), more=0)
    assert link == b"\0" + SYNC


@on_datagrams()
async def test_a_call_disturbs_nobody(lines):
    await lines.through((A, SYNC))
    for who in (A, B):
        link, _, sent = await lines.through((who, registers.CALL), (A, PLAIN))
        assert link == b"\0" + PLAIN and [to for to, _ in sent] == [who]
        assert announcement(sent[0][1])["port"] == A[1]
    link, _, sent = await lines.through((A, PLAIN), replies=b"\x02\x07\x00")
    assert (link, sent) == (b"\0" + PLAIN, [(A, b"\x02\x07\x00")])


@on_datagrams()
async def test_a_flood_is_answered_one_at_a_time(lines):
    await lines.through((A, SYNC))
    noise = random.Random(3)
    flood = [((noise.randrange(1 << 32), noise.randrange(1 << 16)),
              noise.choice([registers.CALL, PLAIN, b"\xff\xff", b"S", b"x" * 300]))
             for _ in range(60)]
    link, _, sent = await lines.through(*flood, (A, PLAIN), replies=b"\x02\x07\x00" * 5,
                                        more=2_000)
    assert link == b"\0" + PLAIN and sent.count((A, b"\x02\x07\x00")) == 5
    told = [data for to, data in sent if to != A]
    assert 0 < len(told) <= 60 and all(announcement(data)["ip"] == A[0] for data in told)


@on_datagrams()
async def test_long_replies_are_several_datagrams(lines):
    await lines.through((A, SYNC))
    data = cobs_encode(bytes(range(256)) * 16) + b"\0"
    _, _, sent = await lines.through(replies=data, more=4_000)
    assert b"".join(payload for _, payload in sent) == data
    assert [len(payload) for _, payload in sent] == [REPLY_BYTES] * 2 + [len(data)
                                                                         - 2 * REPLY_BYTES]


@pytest.mark.parametrize("seed", range(3))
def test_hosts_at_random(seed):
    """Every byte for the link is of a datagram of its holder, in order, and every announcement
    names the holder of its moment."""
    @on_datagrams(seed)
    async def check(lines):
        noise, holder = random.Random(seed), (0, 0)
        for _ in range(40):
            who, payload = noise.choice([A, B]), noise.choice([SYNC, PLAIN, registers.CALL])
            if noise.random() < 0.1:
                await lines.cut()
                holder = 0, 0
            link, serial, sent = await lines.through((who, payload), more=120)
            if payload is SYNC:
                holder = who
            passed = payload != registers.CALL and holder == who
            assert (link, serial) == (b"\0" + payload if passed else b"", b"")
            assert bool(sent) != passed
            for to, data in sent:
                told = announcement(data)
                assert to == who and (told["ip"], told["port"]) == holder
    check()
