"""`hw.shell.Shell` with Ethernet, from the pins of its PHY: what it answers and what it ignores.

The clocks of the PHY are 100 ppm off, in opposite directions. The core is a stand-in. After each
trial the board is usable, and its counter of frames tells that nothing else reached the link.
Settings: config, reset_cycles, seed; `few`: only what shows that it works at this clock; `phy`:
"mii" or "rgmii".
"""

from __future__ import annotations

import logging
import struct
import zlib

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, First, Timer, ValueChange
from cocotb.utils import get_sim_time
from cocotbext.eth import GmiiFrame, MiiSink, MiiSource, RgmiiSink, RgmiiSource

from hw import registers
from hw.config import CoreConfig
from hw.datagrams import REPLY_BYTES
from hw.registers import Register, Space, Status
from sim import packets
from sim.helpers import settings
from sim.packets import BROADCAST, Station, board_at, datagram
from sim.streams import seeded
from sw.board.protocol import Read, Reply, Request, Splitter, Write, words

RX_NS, TX_NS = 40.004, 39.996
PINS_NS = 9.5
"""What RGMII sends stands still for so long before and after each edge of its clock."""

FEW = settings().get("few", False)
QUIET_NS, PATIENCE_NS = 12_000, 200_000
"""No answer begins later than this after a frame of 64 bytes, with one of that length under way;
and none at all later than that."""

A = Station(bytes.fromhex("0011223344aa"), 0xC0A80107)
B = Station(bytes.fromhex("0011223344bb"), 0xC0A80108, 40_001)


class Net:
    """The board's network: frames to it, frames from it, and a session of host A with it."""

    def __init__(self, dut, label: str):
        self.dut, self.rng = dut, seeded(settings()["seed"], label)
        self.config = CoreConfig(**settings()["config"])
        self.board = board_at(registers.FIRST_IP)
        self.seq, self.epoch, self.frames = 0, 0, 0
        sync_ns = 1e9 / self.config.clock_hz
        dut.reset_button.value, dut.rx.value = 0, 1
        if settings()["phy"] == "mii":
            to_phy, period_ns, self.sends = dut.tx_clk, TX_NS, dut.tx_en
            self.source = MiiSource(dut.rx_data, dut.rx_er, dut.rx_dv, dut.rx_clk)
            self.sink = MiiSink(dut.tx_data, None, dut.tx_en, dut.tx_clk)
        else:
            to_phy, period_ns, self.sends = dut.oscillator, TX_NS / 4, dut.tx_ctl
            self.source = RgmiiSource(dut.rx_data, dut.rx_ctl, dut.rx_clk)
            self.sink = RgmiiSink(dut.tx_data, dut.tx_ctl, dut.tx_clk)
            self.source.mii_mode = self.sink.mii_mode = True
            cocotb.start_soon(self._watch_pins())
        for clock, period in ((dut.clk, sync_ns), (dut.rx_clk, RX_NS), (to_phy, period_ns)):
            cocotb.start_soon(Clock(clock, period, unit="ns",
                                    period_high=round(period / 2, 3)).start())
        self.source.ifg = 24        # counted in nibbles
        self.ended = -1_000_000_000     # in steps of the simulator
        for end in (self.source, self.sink):
            end.log.setLevel(logging.WARNING)

    async def _watch_pins(self) -> None:
        """What RGMII sends changes only while its clock is 0, not near its edges."""
        dut = self.dut
        pins, clock = (dut.tx_data, dut.tx_ctl), ValueChange(dut.tx_clk)
        edge_ns = changed_ns = 0.0
        await Timer(PINS_NS, "ns")      # what was unknown is known then
        while True:
            event = await First(clock, *(ValueChange(pin) for pin in pins))
            now = get_sim_time("ns")
            if event is clock:
                edge_ns = now
                assert now - changed_ns > PINS_NS, "too near to what is sent"
            else:
                changed_ns = now
                assert not int(dut.tx_clk.value) and now - edge_ns > PINS_NS, "too near to an edge"

    async def begin(self) -> None:
        """Reset by button; the session begins anew."""
        self.dut.reset_button.value = 1
        await Timer(25, "ns")
        self.dut.reset_button.value = 0
        await ClockCycles(self.dut.clk, settings()["reset_cycles"] + 10)
        await self.source.wait()
        await Timer(QUIET_NS, "ns")
        self.sink.clear()
        self.seq, self.epoch, self.frames = 0, 0, 0
        await self.ask(A, Request(sync=True))

    def send(self, frame: bytes, **how) -> None:
        """Queue a frame without its check sequence."""
        self.send_raw(packets.with_check(frame), **how)

    def send_raw(self, frame: bytes, *, error: int | None = None) -> None:
        """Queue a frame as it is. error: the byte at which the PHY tells of one."""
        data = b"\x55" * 7 + b"\xd5" + frame
        flags = None if error is None else [int(place == error + 8) for place in range(len(data))]
        self.source.send_nowait(GmiiFrame(data, flags))

    async def receive(self, patience_ns: float = QUIET_NS) -> bytes | None:
        """The next frame from the board, checked, without its check sequence; None: none comes."""
        await self.source.wait()
        patience = get_sim_time("ns") + patience_ns
        while self.sink.empty():
            if get_sim_time("ns") > patience and not int(self.sends.value):
                return None
            await Timer(200, "ns")
        frame = self.sink.recv_nowait(compact=False)
        assert bytes(frame.get_preamble()) == b"\x55" * 7 + b"\xd5"
        assert frame.check_fcs() and len(frame.get_payload()) >= 60
        gap = get_sim_time("ns") * (frame.sim_time_start - self.ended) / get_sim_time()
        assert gap > 23.5 * TX_NS, "less than 96 bit times between frames"
        self.ended = frame.sim_time_end
        return bytes(frame.get_payload())

    @property
    def ended_ns(self) -> float:
        """When the last frame from the board had come."""
        return get_sim_time("ns") * self.ended / get_sim_time()

    async def receive_payload(self, host: Station) -> bytes:
        """Payload of the datagram that `host` gets next."""
        frame = await self.receive(PATIENCE_NS)
        assert frame is not None, "no datagram"
        return packets.read_datagram(frame, self.board, host)

    async def reply(self, host: Station) -> Reply:
        """The reply that `host` gets next, of one datagram or several."""
        splitter = Splitter()
        while True:
            payload = await self.receive_payload(host)
            assert len(payload) <= REPLY_BYTES
            for frame in splitter.feed(payload):
                return Reply.decode(frame)

    async def ask(self, host: Station, request: Request, *, to: Station | None = None,
                  mac: bytes | None = None) -> Reply:
        """Send a request that the board must do, and return its reply."""
        seq = self.seq
        self.send(datagram(host, to or self.board, request.encode(seq), mac=mac))
        self.did(request)
        reply = await self.reply(host)
        assert (reply.status, reply.seq, reply.epoch) == (Status.OK, seq, self.epoch)
        return reply

    def did(self, request: Request) -> None:
        """The session after the board has done a request."""
        if request.chained:
            self.epoch = registers.next_epoch(self.epoch, zlib.crc32(request.frame(self.seq)))
        self.seq, self.frames = (self.seq + 1) & 0xFFFF, self.frames + 1

    def write(self, count: int) -> tuple[Request, list[int]]:
        """A request that writes random words and reads them back, and the words."""
        data = [int(word) for word in self.rng.integers(0, 1 << 32, count)]
        return Request(Write(Space.WEIGHT, 3, words(data)), read=Read(Space.WEIGHT, 3, count)), data

    async def check(self, host: Station = A) -> None:
        """The board does a request of `host`, and no other frame has reached the link."""
        request, data = self.write(2)
        assert (await self.ask(host, request)).words.tolist() == data
        counted = await self.ask(host, Request(read=Read(Space.REGISTER, Register.FRAMES, 3)))
        assert counted.words.tolist() == [self.frames, 0, 0]

    async def ignored(self) -> None:
        """What has been sent is not answered, and the board is usable."""
        assert (frame := await self.receive()) is None, frame.hex()
        await self.check()


@cocotb.test(skip=FEW, timeout_time=20, timeout_unit="ms")
async def arp_and_ping(dut):
    """Who has the address is told; echoes come back whole, whatever their checksum."""
    net = Net(dut, "ping")
    await net.begin()
    for host, mac in ((A, BROADCAST), (B, net.board.mac), (Station(B.mac, 0), BROADCAST)):
        net.send(packets.ethernet(host, mac, 0x0806, packets.arp(host, net.board.ip)))
        packets.read_arp_reply(await net.receive(), net.board, host)
    for size in (4, 5, 24, 60, 1480 - 4):
        payload = net.rng.bytes(size)
        await ping(net, payload)
    for checksum in (0x0000, 0xF7FF, 0xF800, 0xF8FF, 0xFFFE, 0x00FF, 0xFF00):
        rest = packets.inverted_sum(struct.pack(">HH", 0x0800, checksum))
        await ping(net, struct.pack(">HH", rest, 0))
    for ip in (0x0A00FFF8, 0xDFFFFFFF, 0x01000000):     # with and without a last carry in its sum
        await ping(net, b"abcd", host=Station(B.mac, ip))
    await net.check()


async def ping(net: Net, payload: bytes, *, host: Station = A) -> None:
    net.send(packets.ethernet(host, net.board.mac, 0x0800,
                              packets.ip(host, net.board.ip, 1, packets.echo(payload))))
    frame = await net.receive(PATIENCE_NS)
    assert packets.read_echo_reply(frame, net.board, host) == payload


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def session(dut):
    """The board's identity, requests of all lengths, a reply of several datagrams, broadcast, an
    error told by the PHY."""
    net = Net(dut, "session")
    await net.begin()
    reply = await net.ask(A, Request(read=Read(Space.REGISTER, Register.MAGIC, 5)))
    identity = registers.identity(net.config)
    assert reply.words.tolist() == [registers.MAGIC, registers.PROTOCOL, identity & 0xFFFFFFFF,
                                    identity >> 32, net.config.clock_hz]
    for count in (1, 3, 100, 340):
        request, data = net.write(count)
        assert (await net.ask(A, request)).words.tolist() == data
    reply = await net.ask(A, Request(read=Read(Space.WEIGHT, 0, 450)))
    assert reply.words[3:343].tolist() == data
    for ip in (0xFFFFFFFF, net.board.ip | 0xFF):
        await net.ask(A, Request(read=Read(Space.REGISTER, 0, 1)), mac=BROADCAST,
                      to=Station(BROADCAST, ip, registers.UDP_PORT))
    await net.check()
    frame = packets.with_check(datagram(A, net.board, Request().encode(net.seq)))
    net.send_raw(frame, error=int(net.rng.integers(len(frame))))
    await net.ignored()
    # The address changes at once: already the reply comes from the new one.
    old, net.board = net.board, board_at(0x0A000005)
    await net.ask(A, Request(Write(Space.REGISTER, Register.IP, words([net.board.ip]))), to=old)
    net.send(datagram(A, old, Request().encode(net.seq)))
    await net.ignored()


@cocotb.test(skip=FEW, timeout_time=40, timeout_unit="ms")
async def frames_without_effect(dut):
    """Damaged, too short, too long, in parts, with wrong lengths, for others, of other kinds."""
    net = Net(dut, "ignored")
    await net.begin()
    board, port = net.board, registers.UDP_PORT
    payload = Request().encode(net.seq)
    good = datagram(A, board, payload)
    other = board_at(board.ip + 1)

    def packet(*about, protocol=17, **options):
        return packets.ethernet(A, board.mac, 0x0800,
                                packets.ip(A, board.ip, protocol, *about, **options))

    whole, long = packets.with_check(good), datagram(A, board, payload.ljust(1473, b"\0"))
    place = int(net.rng.integers(len(whole)))
    raw = [
        bytes([*whole[:place], whole[place] ^ 1 << int(net.rng.integers(8)), *whole[place + 1:]]),
        whole[:-1], whole[:30], whole[:5], packets.with_check(good[:42], least=0),
        packets.with_check(datagram(A, board, payload[:10]), least=59),
        packets.with_check(long),
        packets.with_check(datagram(A, board, payload.ljust(2100, b"\0"))),
    ]
    for frame in raw:
        net.send_raw(frame)
    net.source.send_nowait(GmiiFrame(b"\x55" * 6 + b"\x75\xd5" + whole))   # a broken preamble
    net.source.send_nowait(GmiiFrame(b"\x55" * 6))
    await net.ignored()

    ours, nobody = packets.udp(A, board, payload), Station(A.mac, A.ip, A.port)
    for frame in (
            packet(ours, fragment=0x2000), packet(ours, fragment=0x0001),
            packet(ours, fragment=0x2100), packet(ours, first=0x46, options=bytes(4)),
            packet(ours, first=0x65), packet(ours, damage=1 << int(net.rng.integers(16))),
            packet(ours, length=20 + len(ours) + 40), packet(ours, length=20 + len(ours) - 1),
            packet(ours, length=27), packet(ours, length=19), packet(ours, length=0xFFFF),
            packet(packets.udp(A, board, payload, length=len(ours) - 1)),
            packet(packets.udp(A, board, payload, length=len(ours) + 256)),
            # More than came, and more by what the check sequence would fill: all lengths agree.
            *(packet(packets.udp(A, board, payload, length=len(ours) + more),
                     length=20 + len(ours) + more) for more in (1, 3, 4, 5, 40)),
            packet(packets.echo(bytes(60)), protocol=1, length=20 + 64 + 2),
            packet(packets.udp(A, board, b"")), packet(ours, protocol=6),
            datagram(A, Station(board.mac, board.ip, port + 1), payload),
            datagram(A, Station(board.mac, board.ip, port ^ 0x100), payload)):
        net.send(frame)
    await net.ignored()

    for frame in (
            datagram(A, other, payload), datagram(A, board, payload, mac=other.mac),
            datagram(A, other, payload, mac=board.mac),
            datagram(A, Station(BROADCAST, board.ip ^ 0xFF00 | 0xFF, port), payload),
            datagram(Station(b"\x01" + A.mac[1:], A.ip, A.port), board, payload),
            packets.ethernet(nobody, board.mac, 0x86DD, good[14:]),
            packets.ethernet(A, board.mac, 0x8100, b"\0\1\x08\0" + good[14:]),
            packet(packets.echo(b"abcdef", kind=0), protocol=1),
            packet(packets.echo(b""), protocol=1, length=23),
            packets.ethernet(A, BROADCAST, 0x0800, packets.ip(A, 0xFFFFFFFF, 1,
                                                              packets.echo(b"abcdef"))),
            packets.ethernet(A, BROADCAST, 0x0806, packets.arp(A, other.ip)),
            packets.ethernet(A, BROADCAST, 0x0806, packets.arp(A, board.ip, operation=2))):
        net.send(frame)
    await net.ignored()


@cocotb.test(skip=FEW, timeout_time=40, timeout_unit="ms")
async def storm(dut):
    """ARP requests, for the board and for others, at the line's full rate: a request in between is
    done after one or more attempts, and the board is usable afterwards."""
    net = Net(dut, "storm")
    await net.begin()
    asked = answers = 0
    request, data = net.write(20)
    for number in range(60):
        mine = number % 4 != 3
        asked += mine
        net.send(packets.ethernet(B, BROADCAST, 0x0806,
                                  packets.arp(B, net.board.ip if mine else 99)))
        if number == 30:
            net.send(datagram(A, net.board, request.encode(net.seq)))
    net.did(request)
    replies = []
    while (frame := await net.receive()) is not None:
        if frame[12:14] == b"\x08\x06":
            packets.read_arp_reply(frame, net.board, B)
            answers += 1
        else:
            replies.append(packets.read_datagram(frame, net.board, A))
    assert answers == asked and len(replies) == 1
    assert Reply.decode(next(Splitter().feed(replies[0]))).words.tolist() == data
    await net.check()


@cocotb.test(skip=FEW, timeout_time=40, timeout_unit="ms")
async def more_than_the_buffer_holds(dut):
    """Echo requests that come while long replies go out: some are lost, whole; none is damaged."""
    net = Net(dut, "full")
    await net.begin()
    for _ in range(3):
        request = Request(read=Read(Space.WEIGHT, 0, 340))
        net.send(datagram(A, net.board, request.encode(net.seq)))
        net.did(request)
    echoes = [net.rng.bytes(400) for _ in range(24)]
    for payload in echoes:
        net.send(packets.ethernet(B, net.board.mac, 0x0800,
                                  packets.ip(B, net.board.ip, 1, packets.echo(payload))))
    replies, answered = 0, []
    while (frame := await net.receive(PATIENCE_NS)) is not None:
        if frame[:6] == A.mac:
            packets.read_datagram(frame, net.board, A)
            replies += 1
        else:
            answered.append(packets.read_echo_reply(frame, net.board, B))
    waiting = iter(echoes)
    assert all(answer in waiting for answer in answered), "not what was sent, or not in its order"
    assert replies == 3 and 8 < len(answered) < len(echoes)
    await net.check()


@cocotb.test(skip=FEW, timeout_time=40, timeout_unit="ms")
async def two_hosts(dut):
    """The board serves one host; another is told which, and takes over with a `sync`."""
    net = Net(dut, "hosts")
    await net.begin()

    async def told(asker: Station, payload: bytes, holder: Station, **how) -> None:
        net.send(datagram(asker, net.board, payload, **how))
        said = await net.receive_payload(asker)
        assert len(said) == registers.ANNOUNCEMENT_BYTES
        assert struct.unpack("<LHHL", said[:12]) == (
            registers.MAGIC, registers.PROTOCOL, holder.port, holder.ip)

    await told(B, registers.CALL, A)
    await told(B, Request().encode(net.seq), A)
    await told(Station(A.mac, A.ip, A.port + 1), Request().encode(net.seq), A)
    await told(A, registers.CALL, A)
    net.send(datagram(B, Station(BROADCAST, 0xFFFFFFFF, registers.UDP_PORT), registers.CALL,
                      mac=BROADCAST))
    assert len(await net.receive_payload(B)) == registers.ANNOUNCEMENT_BYTES
    await net.check(A)
    await net.ask(B, Request(sync=True))
    await told(A, Request().encode(net.seq), B)
    await net.check(B)
    await net.ask(A, Request(sync=True))
    await net.check(A)


@cocotb.test(skip=FEW, timeout_time=40, timeout_unit="ms")
async def datagrams_lost_doubled_reordered(dut):
    """The board does each request once and in its order; it answers the last one again, and says
    of any other which number it expects."""
    net = Net(dut, "order")
    await net.begin()
    orders = [net.write(int(net.rng.integers(1, 9))) for _ in range(4)]
    first = net.seq
    frames = [request.encode(first + place) for place, (request, _) in enumerate(orders)]
    for place in (0, 0, 2, 1, 3, 0, 2, 2, 3):
        net.send(datagram(A, net.board, frames[place]))
        request, data = orders[place]
        reply, due = await net.reply(A), net.seq - first
        if place == due:
            net.did(request)
        else:
            net.frames += 1
        if place in (due, due - 1):
            assert (reply.status, reply.words.tolist()) == (Status.OK, data)
        else:
            assert (reply.status, reply.expected) == (Status.ORDER, first + due)
        assert reply.epoch == net.epoch
    # Several frames in one datagram, and one cut in two.
    pair = [net.write(3), net.write(5)]
    net.send(datagram(A, net.board, b"".join(
        request.encode(net.seq + place) for place, (request, _) in enumerate(pair))))
    for request, data in pair:
        net.did(request)
        assert (await net.reply(A)).words.tolist() == data
    await net.check()


@cocotb.test(skip=FEW, timeout_time=40, timeout_unit="ms")
async def half_a_load_then_silence(dut):
    """A host sends a part of a load and falls silent in a frame; another starts anew."""
    net = Net(dut, "silence")
    await net.begin()
    for _ in range(2):
        request, data = net.write(100)
        assert (await net.ask(A, request)).words.tolist() == data
    net.send(datagram(A, net.board, net.write(100)[0].encode(net.seq)[:300]))
    assert await net.receive() is None
    # The frame that broke off ends where the next datagram begins; its refusal goes to B, too.
    net.seq = 0x700
    sync = Request(sync=True)
    net.send(datagram(B, net.board, sync.encode(net.seq)))
    net.did(sync)
    assert (await net.reply(B)).status == Status.BAD_FRAME
    assert (await net.reply(B)).status == Status.OK
    request, data = net.write(2)
    assert (await net.ask(B, request)).words.tolist() == data


@cocotb.test(skip=FEW, timeout_time=40, timeout_unit="ms")
async def load_at_the_full_rate_of_the_line(dut):
    """Datagrams back to back, each as long as may be: none is lost, and more than 90 % of the line
    is payload; a short request is answered soon."""
    net = Net(dut, "load")
    await net.begin()
    requests = [Request(Write(Space.WEIGHT, 0, words([number] * 345))) for number in range(6)]
    for request in requests:
        net.send(datagram(A, net.board, request.encode(net.seq)))
        net.did(request)
    replies, times = [], []
    for _ in requests:
        replies.append(await net.reply(A))
        times.append(net.ended_ns)
    assert [(reply.status, reply.epoch == net.epoch) for reply in replies] == 5 * [
        (Status.OK, False)] + [(Status.OK, True)]
    share = 5 * 4 * 345 / ((times[-1] - times[0]) / 80)
    await net.check()
    net.send(datagram(A, net.board, Request(read=Read(Space.WEIGHT, 0, 1)).encode(net.seq)))
    await net.source.wait()
    begun = get_sim_time("ns")
    await net.reply(A)
    cocotb.log.info("payload %.1f %% of the line, answered %.2f us after the request", 100 * share,
                    (net.ended_ns - begun) / 1000)
    assert share > 0.9 and net.ended_ns - begun < 20_000


@cocotb.test(skip=FEW, timeout_time=40, timeout_unit="ms")
async def reset_at_any_moment(dut):
    """While a frame comes in and while one goes out; then the first request is done."""
    net = Net(dut, "reset")
    await net.begin()
    for _ in range(4):
        await net.check()
        net.send(datagram(A, net.board, net.write(60)[0].encode(net.seq)))
        await Timer(int(net.rng.integers(1_000, 50_000)), "ns")
        await net.begin()
    await net.check()
