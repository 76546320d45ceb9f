"""A host on an Ethernet: UDP in and out, ARP and ping answered."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.datagrams import UDP

from .mii import RECEIVED, SENT
from .receive import Receiver
from .transmit import ORDER, Kind, Transmitter


class UdpHost(wiring.Component):
    """Receives for one address, answers ARP and ping by itself.

    Members
    -------
    rx, tx: nibbles from and to `mii.Mii`.
    ip: address of the board.
    udp: datagrams to and from the board, see `datagrams.UDP`. A datagram comes out when its frame
    has been received whole; one to be sent is sent before a waiting answer, and its bytes must be
    there in time, one every 80 ns.
    """

    def __init__(self):
        super().__init__({
            "rx": In(stream.Signature(RECEIVED, always_ready=True)),
            "tx": Out(stream.Signature(SENT)), "ip": In(32), "udp": In(UDP),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = Receiver()
        m.submodules.transmitter = transmitter = Transmitter()
        answer = ORDER.create()
        wiring.connect(m, wiring.flipped(self.rx), receiver.i)
        wiring.connect(m, transmitter.o, wiring.flipped(self.tx))
        m.d.comb += [receiver.ip.eq(self.ip), transmitter.ip.eq(self.ip)]
        self._unpack(m, receiver.o, answer, transmitter)
        self._choose(m, answer, transmitter.order)
        return m

    def _unpack(self, m: Module, packets, answer, transmitter) -> None:
        """Reads packets: learns the sender's MAC, hands a datagram on or has the rest answered."""
        at, left = Signal(range(42), init=6), Signal(11)
        mac, ip, word = Signal(48), Signal(32), Signal(16)
        arp, icmp = Signal(), Signal()
        byte, udp = packets.payload, self.udp
        learned = transmitter.learned
        last = left == 5        # `left` counts 4 more than what is left, as in `Receiver`
        m.d.comb += [
            udp.rx.payload.data.eq(byte), udp.rx.payload.last.eq(last),
            udp.rx_ip.eq(ip), udp.rx_port.eq(word),
            answer.kind.eq(Mux(arp, Kind.ARP, Kind.ICMP)), answer.ip.eq(ip), answer.word.eq(word),
            answer.length.eq(left), answer.payload.payload.data.eq(byte),
            answer.payload.payload.last.eq(last),
            learned.place.eq(at[:3]), learned.octet.eq(ip[:8]), learned.data.eq(mac[40:]),
        ]
        with m.If(packets.valid & packets.ready & (at >= 18)):
            m.d.sync += left.eq(left - 1)
        with m.FSM():
            with m.State("HEADER"):
                m.d.comb += packets.ready.eq(1)
                with m.If(packets.valid):
                    m.d.sync += at.eq(at + 1)
                    with m.If(at < 12):
                        m.d.sync += mac.eq(Cat(byte, mac))
                    with m.If(at == 13):
                        m.d.sync += arp.eq(byte[1])
                    with m.If(at == 16):
                        m.d.sync += left[8:].eq(byte)
                    with m.If(at == 17):
                        m.d.sync += left[:8].eq(byte)
                    with m.If(at == 23):
                        m.d.sync += icmp.eq(~byte[4] & ~arp)
                    # The sender's address ends at 29 (IP) or 31 (ARP).
                    with m.If((at >= 26) & ((at < 30) | (arp & (at < 32)))):
                        m.d.sync += ip.eq(Cat(byte, ip))
                    with m.If((at >= 34) & ((at < 36) | (icmp & (at < 38)))):
                        m.d.sync += word.eq(Cat(byte, word))
                    with m.If((at == 41) | (icmp & (at == 37))):
                        m.d.sync += at.eq(0)
                        m.next = "LEARN"
            with m.State("LEARN"):
                m.d.comb += transmitter.learn.eq(1)
                m.d.sync += [at.eq(at + 1), mac.eq(mac << 8)]
                with m.If(at == 5):
                    m.d.sync += at.eq(18)
                    m.next = "ANSWER"
                    with m.If(~arp & ~icmp):
                        m.next = "HAND ON"
            with m.State("HAND ON"):
                m.d.comb += [udp.rx.valid.eq(packets.valid), packets.ready.eq(udp.rx.ready)]
                with m.If(packets.valid & udp.rx.ready & last):
                    m.d.sync += at.eq(6)
                    m.next = "HEADER"
            with m.State("ANSWER"):
                m.d.comb += [answer.go.eq(1), answer.payload.valid.eq(packets.valid),
                             packets.ready.eq(answer.payload.ready)]
                with m.If(answer.done):
                    m.d.sync += at.eq(6)
                    m.next = "HEADER"

    def _choose(self, m: Module, answer, order) -> None:
        """One order after the other: datagrams first."""
        udp = self.udp
        with m.FSM():
            with m.State("IDLE"):
                with m.If(udp.tx.valid):
                    m.next = "DATAGRAM"
                with m.Elif(answer.go):
                    m.next = "ANSWER"
            with m.State("DATAGRAM"):
                m.d.comb += [
                    order.go.eq(1), order.kind.eq(Kind.UDP), order.ip.eq(udp.tx_ip),
                    order.word.eq(udp.tx_port), order.length.eq(udp.tx_length),
                    order.payload.payload.eq(udp.tx.payload),
                    order.payload.valid.eq(udp.tx.valid), udp.tx.ready.eq(order.payload.ready),
                ]
                with m.If(order.done):
                    m.next = "IDLE"
            with m.State("ANSWER"):
                m.d.comb += [
                    order.go.eq(answer.go), order.kind.eq(answer.kind), order.ip.eq(answer.ip),
                    order.word.eq(answer.word), order.length.eq(answer.length),
                    order.payload.payload.eq(answer.payload.payload),
                    order.payload.valid.eq(answer.payload.valid),
                    answer.payload.ready.eq(order.payload.ready), answer.done.eq(order.done),
                ]
                with m.If(order.done):
                    m.next = "IDLE"
