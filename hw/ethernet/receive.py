"""From nibbles to packets for this board: frames checked whole before anything looks at them."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.registers import UDP_PORT

from .mii import RECEIVED

RING_BYTES = 4096
"""Packets that wait for their turn, one block RAM; a frame has 1,518 bytes at most."""

MIN_FRAME, MAX_FRAME = 64, 1518
"""Bytes of a frame, from the destination to the check sequence."""

ARP_BYTES = 28
_ARP_REQUEST = bytes([0, 1, 8, 0, 6, 4, 0, 1])


class Receiver(wiring.Component):
    """Keeps the frames that this board answers, each from its sender's MAC on.

    A frame is written to a ring buffer as it comes and becomes visible when its check sequence is
    right and it is one of
    * an ARP request for `ip`,
    * an ICMP echo request to `ip`,
    * a UDP datagram of one byte or more to port UDP_PORT of `ip`, of all (255.255.255.255) or of
      all of the network (the first three bytes of `ip`, then 255);
    both in an IPv4 packet without options, whole (no fragment), its header's checksum right. The
    sum over a datagram (optional in UDP) is not looked at: the frame's check sequence and the CRC
    of the frames in it are stronger.
    All others leave nothing behind: damaged, shorter than MIN_FRAME, longer than MAX_FRAME, those
    whose lengths do not agree, for others, or too many at a time.

    Members
    -------
    i: nibbles; may come every cycle.
    ip: of this board. Its MAC is 02:53 and the four bytes of the address.
    o: bytes 6 on of the frames kept, to the end of the ARP or IP packet in them.
    """

    def __init__(self):
        super().__init__({
            "i": In(stream.Signature(RECEIVED, always_ready=True)), "ip": In(32),
            "o": Out(stream.Signature(8)),
        })

    def elaborate(self, platform):
        m = Module()
        byte, strobe, ended, right = Signal(8), Signal(), Signal(), Signal()
        begun = self._bytes(m, byte, strobe, ended, right)
        at, good, left = Signal(range(MAX_FRAME + 1)), Signal(), Signal(11)
        self._check(m, byte, strobe, begun, at, good, left)

        m.submodules.ram = ram = Memory(shape=8, depth=RING_BYTES, init=[])
        write, read = ram.write_port(), ram.read_port()
        place, end, head = (Signal(range(RING_BYTES), name=name)
                            for name in ("place", "end", "head"))
        keep, loaded = Signal(), Signal()
        full = (place + 1)[:len(place)] == head
        m.d.comb += [
            keep.eq(strobe & good & (at >= 6) & (left > 4)),
            write.addr.eq(place), write.data.eq(byte), write.en.eq(keep & ~full),
            read.addr.eq(head), self.o.payload.eq(read.data), self.o.valid.eq(loaded),
        ]
        with m.If(keep):
            m.d.sync += place.eq(place + 1)
            with m.If(full):
                m.d.sync += good.eq(0)
        with m.If(ended):
            # What is left of an IP packet's length counts the check sequence, too.
            with m.If(good & right & (at >= MIN_FRAME) & (left == 0)):
                m.d.sync += end.eq(place)
            with m.Else():
                m.d.sync += place.eq(end)
        with m.If(~loaded):
            m.d.sync += loaded.eq(head != end)
        with m.Elif(self.o.ready):
            m.d.sync += [loaded.eq(0), head.eq(head + 1)]
        return m

    def _bytes(self, m: Module, byte, strobe, ended, right) -> Signal:
        """Bytes after the preamble, a `strobe` each; at the end `ended`, and `right` tells whether
        the check sequence was. Returns a pulse before a frame's first byte."""
        i = self.i.payload
        half, wrong, begun = Signal(), Signal(), Signal()
        m.submodules.crc = crc = CRC32_ISO_HDLC(data_width=4).create()
        m.d.comb += crc.data.eq(i.data)
        m.d.sync += [strobe.eq(0), ended.eq(0), begun.eq(0)]
        with m.If(self.i.valid):
            with m.FSM():
                with m.State("PREAMBLE"):
                    m.d.comb += crc.start.eq(1)
                    m.d.sync += [half.eq(0), wrong.eq(0)]
                    with m.If(i.end):
                        pass
                    with m.Elif(i.error | ((i.data != 0x5) & (i.data != 0xD))):
                        m.next = "SKIP"
                    with m.Elif(i.data == 0xD):
                        m.d.sync += begun.eq(1)
                        m.next = "FRAME"
                with m.State("FRAME"):
                    with m.If(i.end):
                        m.d.sync += [ended.eq(1), right.eq(crc.match_detected & ~wrong & ~half)]
                        m.next = "PREAMBLE"
                    with m.Else():
                        m.d.comb += crc.valid.eq(1)
                        m.d.sync += [byte.eq(Cat(byte[4:], i.data)), half.eq(~half),
                                     strobe.eq(half), wrong.eq(wrong | i.error)]
                with m.State("SKIP"):
                    with m.If(i.end):
                        m.next = "PREAMBLE"
        return begun

    def _check(self, m: Module, byte, strobe, begun, at, good, left):
        """Looks at a frame's bytes as they come, by their place `at`; clears `good`.

        left: bytes of the packet that are to come, known from byte 18 on (2,047 until then), and
        with them the 4 of the check sequence: 4 when the packet has ended.
        """
        own, every, arp, icmp = Signal(), Signal(), Signal(), Signal()
        last, total, carry = Signal(8), Signal(16), Signal()
        ip_byte = self.ip.word_select(~(at + 2)[:2], 8)     # addresses begin at 4n + 2
        mine, ones, bad = Signal(), Signal(), Signal()
        m.d.comb += [mine.eq(byte == ip_byte), ones.eq(byte == 0xFF)]

        def expect(condition):
            m.d.comb += bad.eq(~condition)

        with m.If(begun):
            m.d.sync += [at.eq(0), good.eq(1), left.eq(2047), total.eq(0), carry.eq(0)]
        with m.If(strobe):
            m.d.sync += last.eq(byte)
            with m.If(at == MAX_FRAME):
                expect(Const(0))
            with m.Else():
                m.d.sync += at.eq(at + 1)
            with m.If((at >= 18) & (left != 0)):
                m.d.sync += left.eq(left - 1)
            with m.Switch(at):
                with m.Case(0):
                    m.d.sync += [own.eq(byte == 0x02), every.eq(ones)]
                with m.Case(1):
                    m.d.sync += [own.eq(own & (byte == 0x53)), every.eq(every & ones)]
                with m.Case(2, 3, 4, 31, 32, 39, 40):
                    m.d.sync += [own.eq(own & mine), every.eq(every & ones)]
                with m.Case(5):
                    expect((own & mine) | (every & ones))
                with m.Case(6):
                    expect(~byte[0])    # nobody's own MAC is a group's
                with m.Case(12):
                    expect(byte == 0x08)
                with m.Case(13):
                    m.d.sync += arp.eq(byte[1])
                    expect((byte == 0x06) | (byte == 0x00))
                with m.Case(30, 38):
                    m.d.sync += [own.eq(mine), every.eq(ones)]
            with m.If(arp):
                with m.Switch(at):
                    for place, value in enumerate(_ARP_REQUEST, 14):
                        with m.Case(place):
                            expect(byte == value)
                    with m.Case(41):
                        expect(own & mine)
                with m.If(at == 17):
                    m.d.sync += left.eq(ARP_BYTES)
            with m.Else():
                self._check_ip(m, expect, byte, at, left, last, own, every, mine, ones, icmp)
                with m.If(at[0] & (at >= 14) & (at < 34)):
                    m.d.sync += Cat(total, carry).eq(total + Cat(byte, last) + carry)
                with m.If(at == 34):
                    with m.If(~Mux(carry, total == 0xFFFE, total == 0xFFFF)):
                        m.d.sync += good.eq(0)
            with m.If(bad):
                m.d.sync += good.eq(0)

    def _check_ip(self, m: Module, expect, byte, at, left, last, own, every, mine, ones, icmp):
        with m.Switch(at):
            with m.Case(14):
                expect(byte == 0x45)
            with m.Case(16):
                m.d.sync += left[8:].eq(byte)
                expect(byte[3:] == 0)
            with m.Case(17):
                m.d.sync += left[:8].eq(byte)
            with m.Case(20):
                expect((byte & 0xBF) == 0)      # "do not fragment" may be set
            with m.Case(21):
                expect(byte == 0)
            with m.Case(23):
                m.d.sync += icmp.eq(~byte[4])
                expect((byte == 17) | (byte == 1))
            with m.Case(33):
                expect((own & mine) | ((own | every) & ones & ~icmp))
            with m.Case(34):
                with m.If(icmp):
                    expect(byte == 8)
            with m.Case(35):
                with m.If(icmp):
                    expect(byte == 0)
            with m.Case(36):
                with m.If(~icmp):
                    expect(byte == UDP_PORT >> 8)
            with m.Case(37):
                with m.If(~icmp):
                    expect(byte == UDP_PORT & 0xFF)
            with m.Case(38):        # a datagram is as long as what is left of its packet
                with m.If(~icmp):
                    expect(byte == left[8:])
            with m.Case(39):
                with m.If(~icmp):
                    expect(byte == (left + 1)[:8])
            with m.Case(41):
                expect(left > 4)
            with m.Case(42):
                with m.If(~icmp):
                    expect(left > 4)
