"""Sends datagrams and answers, as nibbles of whole Ethernet frames."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.datagrams import BYTE
from hw.registers import UDP_PORT

from .mii import SENT

LEARNED = data.StructLayout({"place": 3, "octet": 8, "data": 8})
"""A byte of a MAC: which one, and the last byte of the address that it belongs to."""

PREAMBLE_NIBBLES, CHECK_NIBBLES, GAP_NIBBLES = 16, 8, 24
PADDED = 60
"""A frame has at least so many bytes before its check sequence."""


class Kind(enum.Enum, shape=2):
    """What a frame carries."""

    UDP = 0
    ICMP = 1
    """An echo reply; the payload follows its checksum."""
    ARP = 2
    """A reply, without payload."""


ORDER = wiring.Signature({
    "go": Out(1), "kind": Out(Kind), "ip": Out(32), "word": Out(16), "length": Out(11),
    "payload": Out(stream.Signature(BYTE)), "done": In(1),
})
"""A frame to send.

go: until `done`, a pulse with the frame's last byte. kind, ip: what, and to whom. word: UDP port of
the receiver, or checksum of the echo request. length: bytes of the payload, and 4 for an echo
reply. payload: in time, a byte every 80 ns.
"""


class Transmitter(wiring.Component):
    """Sends one frame after the other.

    Members
    -------
    ip: address of this board; its MAC is 02:53 and the four bytes of the address.
    order: see `ORDER`. learned, learn: MACs to remember, by the last byte of their address: frames
    go to the MAC that was learned last for the last byte of the receiver's address. So no ARP
    request is needed, and within a network of 256 addresses no two hosts share a place.
    o: nibbles for `mii.Mii`, the gap after the frame among them.

    A byte takes 3 cycles or more; the sum over the IP header is made in 22 cycles before a frame:
    a byte of it is a register's before it is added, or choice and sum would be one long path.
    """

    def __init__(self):
        super().__init__({
            "ip": In(32), "order": In(ORDER), "learn": In(1), "learned": In(LEARNED),
            "o": Out(stream.Signature(SENT)),
        })

    def elaborate(self, platform):
        m = Module()
        order, o = self.order, self.o
        at, count = Signal(range(PADDED + 1)), Signal(range(GAP_NIBBLES))
        byte, header = Signal(8), Signal(8)
        behind, last = Signal(8), Signal(8)     # the header's last two bytes
        total, carry = Signal(16), Signal()
        empty = Signal()     # no payload is left
        m.submodules.crc = crc = CRC32_ISO_HDLC(data_width=4).create()
        m.submodules.ram = ram = Memory(shape=8, depth=1 << 11, init=[])
        write, macs = ram.write_port(), ram.read_port()
        m.d.comb += [
            write.addr.eq(Cat(self.learned.place, self.learned.octet)),
            write.data.eq(self.learned.data), write.en.eq(self.learn),
            macs.addr.eq(Cat(at[:3], order.ip[:8])),
            header.eq(self._header(m, at, macs.data, ~total)),
            o.payload.enable.eq(1), crc.data.eq(o.payload.data),
        ]
        m.d.sync += [behind.eq(header), last.eq(behind)]
        in_header = at < Mux(order.kind == Kind.ICMP, 38, 42)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [at.eq(14), total.eq(0), carry.eq(0), count.eq(0)]
                with m.If(order.go):
                    m.next = "SUM"
            with m.State("SUM"):
                m.d.sync += at.eq(at + 1)
                with m.If(~at[0] & (at != 14) & (at != 26)):    # 24, 25: where the sum will be
                    m.d.sync += Cat(total, carry).eq(total + Cat(behind, last) + carry)
                with m.If(at == 34):
                    m.next = "CARRY"
            with m.State("CARRY"):
                m.d.sync += [total.eq(total + carry), at.eq(0),
                             empty.eq(order.kind == Kind.ARP)]
                m.next = "PREAMBLE"
            with m.State("PREAMBLE"):
                m.d.comb += [o.valid.eq(1), crc.start.eq(1),
                             o.payload.data.eq(Mux(count == PREAMBLE_NIBBLES - 1, 0xD, 0x5))]
                self._count(m, count, PREAMBLE_NIBBLES, "LOAD")
            with m.State("LOAD"):
                with m.If(in_header):
                    m.d.sync += byte.eq(header)
                    m.next = "LOW"
                with m.Elif(empty):
                    m.d.sync += byte.eq(0)
                    m.next = "LOW"
                with m.Else():
                    m.d.comb += order.payload.ready.eq(1)
                    m.d.sync += [byte.eq(order.payload.payload.data),
                                 empty.eq(order.payload.payload.last)]
                    with m.If(order.payload.valid):
                        m.next = "LOW"
            with m.State("LOW"):
                m.d.comb += [o.valid.eq(1), o.payload.data.eq(byte[:4])]
                with m.If(o.ready):
                    m.d.comb += crc.valid.eq(1)
                    with m.If(at != PADDED):
                        m.d.sync += at.eq(at + 1)
                    m.next = "HIGH"
            with m.State("HIGH"):
                m.d.comb += [o.valid.eq(1), o.payload.data.eq(byte[4:])]
                with m.If(o.ready):
                    m.d.comb += crc.valid.eq(1)
                    with m.If(empty & (at == PADDED)):
                        m.d.comb += order.done.eq(1)
                        m.next = "CHECK"
                    with m.Else():
                        m.next = "LOAD"
            with m.State("CHECK"):
                m.d.comb += [o.valid.eq(1), o.payload.data.eq(crc.crc.word_select(count[:3], 4))]
                self._count(m, count, CHECK_NIBBLES, "GAP")
            with m.State("GAP"):
                m.d.comb += [o.valid.eq(1), o.payload.enable.eq(0)]
                self._count(m, count, GAP_NIBBLES, "IDLE")
        return m

    def _count(self, m: Module, count, nibbles: int, following: str) -> None:
        with m.If(self.o.ready):
            m.d.sync += count.eq(count + 1)
            with m.If(count == nibbles - 1):
                m.d.sync += count.eq(0)
                m.next = following

    def _header(self, m: Module, at, mac, checksum) -> Signal:
        """The byte of the header at a place; `mac`: the receiver's, by the lower 3 bits of it."""
        order, byte, length = self.order, Signal(8), Signal(11)
        own, peer = Signal(8), Signal(8)
        is_udp, is_arp = order.kind == Kind.UDP, order.kind == Kind.ARP
        udp_length = at[5]           # 38 and 39, where the IP length is at 16 and 17
        m.d.comb += [
            # Own addresses begin at 4n, but in an IP header at 26; the receiver's all at 4n + 2.
            own.eq(self.ip.word_select(~Mux(~is_arp & (at >= 26), at[:2] ^ 2, at[:2]), 8)),
            peer.eq(order.ip.word_select(~(at[:2] ^ 2), 8)),
        ]
        # A cycle late, as the word below: both are asked for long after the order has come.
        m.d.sync += length.eq(order.length + Mux(udp_length, 8, Mux(is_udp, 28, 20)))
        # The checksum of an echo reply: 8 less in the type is 8 more here, with the carry around.
        around = Mux(is_udp, 0, order.word[11:].all())
        word = Signal(16)
        m.d.sync += word.eq(order.word + (Mux(is_udp, 0, 8) << 8) + around)
        low, high = UDP_PORT & 0xFF, UDP_PORT >> 8
        with m.Switch(at):
            with m.Case(0, 1, 2, 3, 4, 5):
                m.d.comb += byte.eq(mac)
            with m.Case(6):
                m.d.comb += byte.eq(0x02)
            with m.Case(7):
                m.d.comb += byte.eq(0x53)
            with m.Case(8, 9, 10, 11):
                m.d.comb += byte.eq(own)
            with m.Case(12):
                m.d.comb += byte.eq(0x08)
            with m.Case(13):
                m.d.comb += byte.eq(Mux(is_arp, 0x06, 0x00))
        with m.If(is_arp):
            with m.Switch(at):
                for place, value in enumerate([0, 1, 8, 0, 6, 4, 0, 2, 0x02, 0x53], 14):
                    with m.Case(place):
                        m.d.comb += byte.eq(value)
                with m.Case(*range(24, 32)):
                    m.d.comb += byte.eq(own)
                with m.Case(*range(32, 38)):
                    m.d.comb += byte.eq(mac)
                with m.Case(*range(38, 42)):
                    m.d.comb += byte.eq(peer)
        with m.Else():
            with m.Switch(at):
                for place, value in {14: 0x45, 20: 0x40, 22: 64}.items():   # 20: do not fragment
                    with m.Case(place):
                        m.d.comb += byte.eq(value)
                with m.Case(16, 38):
                    m.d.comb += byte.eq(length[8:])
                with m.Case(17, 39):
                    m.d.comb += byte.eq(length[:8])
                with m.Case(23):
                    m.d.comb += byte.eq(Mux(is_udp, 17, 1))
                with m.Case(24):
                    m.d.comb += byte.eq(checksum[8:])
                with m.Case(25):
                    m.d.comb += byte.eq(checksum[:8])
                with m.Case(*range(26, 30)):
                    m.d.comb += byte.eq(own)
                with m.Case(*range(30, 34)):
                    m.d.comb += byte.eq(peer)
                with m.Case(34):
                    m.d.comb += byte.eq(Mux(is_udp, high, 0))
                with m.Case(35):
                    m.d.comb += byte.eq(Mux(is_udp, low, 0))
                with m.Case(36):
                    m.d.comb += byte.eq(word[8:])
                with m.Case(37):
                    m.d.comb += byte.eq(word[:8])
        return byte
