"""Whose datagrams reach the link, and where its replies go.

A datagram carries whole frames, the bytes that a serial line would (`hw.framing`). One speaker is
answered at a time, the *holder*: the serial line after a reset and after a break, else the host
(address and port) whose datagram began with a `sync` last. All others are told who holds the board
by an announcement (`registers.ANNOUNCEMENT`), as is who asks for one with `registers.CALL`.
"""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from . import registers
from .config import CoreConfig

BYTE = data.StructLayout({"data": 8, "last": 1})
"""A byte of a datagram's payload; `last` marks the last one."""

REPLY_BYTES = 1408
"""A longer reply goes out as several datagrams, so that each fits an Ethernet frame."""

UDP = wiring.Signature({
    "rx": In(stream.Signature(BYTE)), "rx_ip": In(32), "rx_port": In(16),
    "tx": Out(stream.Signature(BYTE)), "tx_ip": Out(32), "tx_port": Out(16),
    "tx_length": Out(range(REPLY_BYTES + 1)),
})
"""Datagrams that came and datagrams to send, as the board sees it.

rx, rx_ip, rx_port: payload of a datagram and who sent it, steady from the first byte's `valid` to
the last byte. tx, tx_ip, tx_port, tx_length: the same of one to send, its length in bytes. Of an
address, a number, the first byte of the dotted form is the most significant.
"""

SYNC = registers.PROTOCOL | 1 << 5
"""The lower 6 bits of a frame's first byte, which COBS puts second, if it is a `sync`."""


class Datagrams(wiring.Component):
    """Between a UDP core, the serial line and `top.Top`.

    Members
    -------
    udp: see `UDP`.
    serial_rx, serial_tx: bytes of the serial line, `serial_rx` always ready; ignored, and silent,
    while a host holds the board. serial_broken: a pulse, the line had a break.
    link_rx, link_tx: to `Top.rx`, which is always ready, and from `Top.tx`.
    busy: a reply or an announcement is on its way.

    A datagram's bytes follow a zero, so that its first frame is whole whatever came before. A
    datagram of one byte has no effect.
    """

    def __init__(self, config: CoreConfig, *, build: int = 0):
        self._fixed = {"identity": registers.identity(config), "build": build,
                       "magic": registers.MAGIC, "protocol": registers.PROTOCOL,
                       "clock_hz": config.clock_hz}
        super().__init__({
            "udp": Out(UDP), "busy": Out(1),
            "serial_rx": In(stream.Signature(8)), "serial_tx": Out(stream.Signature(8)),
            "serial_broken": In(1),
            "link_rx": Out(stream.Signature(8)), "link_tx": In(stream.Signature(8)),
        })

    def elaborate(self, platform):
        m = Module()
        by_host, ip, port = Signal(), Signal(32), Signal(16)    # the holder
        asker_ip, asker_port = Signal(32), Signal(16)           # whom to send an announcement
        asked, sending, broken = Signal(), Signal(), Signal()
        with m.If(self.serial_broken):
            m.d.sync += broken.eq(1)
        with m.Elif(broken & ~sending):     # what goes out stays as it is
            m.d.sync += [broken.eq(0), by_host.eq(0)]
        self._receive(m, (by_host, ip, port), (asker_ip, asker_port), asked, sending)
        self._send(m, (by_host, ip, port), (asker_ip, asker_port), asked, sending)
        return m

    def _receive(self, m, holder, asker, asked, sending):
        by_host, ip, port = holder
        udp, rx, link = self.udp, self.udp.rx, self.link_rx
        first = Signal(8)
        called, sync, held = Signal(), Signal(), Signal()
        m.d.comb += [
            called.eq(Cat(first, rx.payload.data) == int.from_bytes(registers.CALL[:2], "little")),
            sync.eq(rx.payload.data[:6] == SYNC),
            held.eq(by_host & (ip == udp.rx_ip) & (port == udp.rx_port)),
            self.serial_rx.ready.eq(1),
        ]
        with m.FSM() as self._receiving:    # a proof looks at it
            with m.State("FIRST"):
                m.d.comb += rx.ready.eq(1)
                m.d.sync += first.eq(rx.payload.data)
                with m.If(rx.valid & ~rx.payload.last):
                    m.next = "JUDGE"
            with m.State("JUDGE"):      # by the second byte, which stays where it is
                with m.If(rx.valid & held & ~called):
                    m.next = "ZERO"
                with m.Elif(rx.valid & sync):
                    with m.If(~sending):
                        m.d.sync += [by_host.eq(1), ip.eq(udp.rx_ip), port.eq(udp.rx_port)]
                        m.next = "ZERO"
                with m.Elif(rx.valid):
                    with m.If(~asked & ~sending):
                        m.d.sync += [asked.eq(1), asker[0].eq(udp.rx_ip),
                                     asker[1].eq(udp.rx_port)]
                    m.next = "DROP"
            with m.State("ZERO"):
                m.d.comb += link.valid.eq(1)
                m.next = "PASS FIRST"
            with m.State("PASS FIRST"):
                m.d.comb += [link.valid.eq(1), link.payload.eq(first)]
                m.next = "PASS"
            with m.State("PASS"):
                m.d.comb += [link.valid.eq(rx.valid), link.payload.eq(rx.payload.data),
                             rx.ready.eq(1)]
                with m.If(rx.valid & rx.payload.last):
                    m.next = "FIRST"
            with m.State("DROP"):
                m.d.comb += rx.ready.eq(1)
                with m.If(rx.valid & rx.payload.last):
                    m.next = "FIRST"
        with m.If(~by_host):
            m.d.comb += [link.valid.eq(self.serial_rx.valid),
                         link.payload.eq(self.serial_rx.payload)]

    def _send(self, m, holder, asker, asked, sending):
        by_host, ip, port = holder
        link, udp, tx = self.link_tx, self.udp, self.udp.tx
        m.submodules.ram = ram = Memory(shape=8, depth=1 << (REPLY_BYTES - 1).bit_length(), init=[])
        write, read = ram.write_port(), ram.read_port()
        length = Signal(range(REPLY_BYTES + 1))     # bytes of a reply so far
        at, after, final = Signal.like(length), Signal.like(length), Signal.like(length)
        announcing, taken = Signal(), tx.valid & tx.ready
        announced = self._announced(m, holder, at)
        m.d.comb += [
            after.eq(Mux(taken, at + 1, at)), read.addr.eq(after),
            write.addr.eq(length), write.data.eq(link.payload),
            tx.payload.last.eq(at == final), tx.payload.data.eq(read.data),
            udp.tx_ip.eq(Mux(announcing, asker[0], ip)),
            udp.tx_port.eq(Mux(announcing, asker[1], port)),
            udp.tx_length.eq(Mux(announcing, registers.ANNOUNCEMENT_BYTES, length)),
            self.serial_tx.payload.eq(link.payload),
        ]
        m.d.sync += [at.eq(after), self.busy.eq(sending | asked | (length != 0))]
        m.d.comb += sending.eq(1)
        with m.FSM():
            with m.State("COLLECT"):
                m.d.comb += sending.eq(0)
                m.d.sync += [at.eq(0), final.eq(registers.ANNOUNCEMENT_BYTES - 1)]
                with m.If(by_host):
                    m.d.comb += [link.ready.eq(1), write.en.eq(link.valid)]
                    with m.If(link.valid):
                        m.d.sync += length.eq(length + 1)
                        with m.If((link.payload == 0) | (length == REPLY_BYTES - 1)):
                            m.next = "READ"
                with m.Else():
                    m.d.comb += [link.ready.eq(self.serial_tx.ready),
                                 self.serial_tx.valid.eq(link.valid)]
                    m.d.sync += length.eq(0)
                with m.If(asked & ~(by_host & link.valid)):
                    m.d.sync += asked.eq(0)
                    m.next = "ANNOUNCE"
            with m.State("READ"):
                m.d.sync += final.eq(length - 1)
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += tx.valid.eq(1)
                with m.If(tx.ready & tx.payload.last):
                    m.d.sync += length.eq(0)
                    m.next = "COLLECT"
            with m.State("ANNOUNCE"):
                m.d.comb += [tx.valid.eq(1), tx.payload.data.eq(announced),
                             announcing.eq(1)]
                with m.If(tx.ready & tx.payload.last):
                    m.next = "COLLECT"

    def _announced(self, m, holder, at):
        """The byte of the announcement at a place."""
        by_host, ip, port = holder
        idle, tick = Signal(16, init=0xFFFF), Signal(registers.IDLE_SHIFT + 1)
        with m.If(self.link_rx.valid):
            m.d.sync += [idle.eq(0), tick.eq(0)]
        with m.Else():
            m.d.sync += tick.eq(tick[:-1] + 1)
            with m.If(tick[-1] & ~idle.all()):
                m.d.sync += idle.eq(idle + 1)
        values = self._fixed | {"holder_port": Mux(by_host, port, 0),
                                "holder_ip": Mux(by_host, ip, 0), "idle": idle}
        told = []
        for name, width in registers.ANNOUNCEMENT:
            told.append(field := Signal(width, name=f"told_{name}"))
            m.d.comb += field.eq(values[name])
        return Cat(told).word_select(at, 8)
