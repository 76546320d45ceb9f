"""Top level of every board: the link and the core behind a byte stream, and the same with a UART.

`Top` has no pins; the simulated board runs exactly this. `SerialTop` adds the bit timing.
"""

from __future__ import annotations

from amaranth import Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .config import CoreConfig
from .core import Core
from .datagrams import UDP, Datagrams
from .ddr3 import ControlBridge, memory_ports
from .link import Link
from .registers import DEFAULT_BAUD, FIRST_IP, Space
from .uart import UartReceiver, UartSender, divisor_for


class Top(wiring.Component):
    """Link and core.

    rx, tx: bytes from and to the host; `rx` is always ready.
    reset: resets all but the content of memories, the core one cycle longer.
    busy: a request is at work or a reply on its way.
    error, divisor, restore_divisor: see `link.Link`.
    core: another core with the ports of `core.Core`, for tests.
    build: 64 bits that tell the build, in registers BUILD_LOW and BUILD_HIGH.
    ethernet: whether the board has an address, `ip`.
    dram, dram_control: the memory of a core with one, and the registers of its controller where
    the host initialises that.
    """

    def __init__(self, config: CoreConfig, *, core: wiring.Component | None = None,
                 default_baud: int = DEFAULT_BAUD, build: int = 0, ethernet: bool = False):
        self._config, self._core = config, core
        self._baud, self._build, self._ethernet = default_baud, build, ethernet
        super().__init__({
            "rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8)),
            "reset": In(1), "busy": Out(1), "error": Out(1),
            "divisor": Out(20), "restore_divisor": In(1), "ip": Out(32),
        } | memory_ports(config))

    def elaborate(self, platform):
        m = Module()
        link = Link(self._config, divisor=divisor_for(self._config.clock_hz, self._baud),
                    build=self._build, first_ip=FIRST_IP if self._ethernet else 0)
        m.submodules.link = ResetInserter(self.reset)(link)
        core = self._core or Core(self._config)
        # The link's reset sets core_reset, so the core has one reset, straight from a flip-flop.
        m.submodules.core = core
        wiring.connect(m, wiring.flipped(self.rx), link.rx)
        wiring.connect(m, link.tx, wiring.flipped(self.tx))
        if self._config.ddr3:
            self._split(m, link.bus, core.bus)
        else:
            wiring.connect(m, link.bus, core.bus)
        m.d.comb += [
            core.reset.eq(link.core_reset),
            core.start.eq(link.start), core.stop_after.eq(link.stop_after),
            core.first_layer_address.eq(link.first_layer_address), link.done.eq(core.done),
            self.busy.eq(link.busy), self.error.eq(link.error), self.divisor.eq(link.divisor),
            self.ip.eq(link.ip), link.restore_divisor.eq(self.restore_divisor),
        ]
        if self._config.dram_words:
            wiring.connect(m, core.dram, wiring.flipped(self.dram))
            m.d.comb += link.run_fault.eq(core.fault)
        return m

    def _split(self, m, bus, to_core):
        """The host's accesses go to the core, or to the registers of its memory's controller."""
        bridge = ControlBridge()
        m.submodules.bridge = ResetInserter(self.reset)(bridge)
        wiring.connect(m, bridge.control, wiring.flipped(self.dram_control))
        own = bus.space == Space.DRAM_CONTROL
        for target, chosen in ((to_core, ~own), (bridge.bus, own)):
            m.d.comb += [
                target.space.eq(bus.space), target.addr.eq(bus.addr),
                target.w_data.eq(bus.w_data),
                target.w_en.eq(bus.w_en & chosen), target.r_en.eq(bus.r_en & chosen),
            ]
        m.d.comb += [
            bus.r_valid.eq(to_core.r_valid | bridge.bus.r_valid),
            bus.w_done.eq(to_core.w_done | bridge.bus.w_done),
            bus.r_data.eq(Mux(bridge.bus.r_valid, bridge.bus.r_data, to_core.r_data)),
        ]


class SerialTop(wiring.Component):
    """`Top` behind a UART.

    A new bit time takes effect when the reply to the request that set it has left. A break (the
    line at 0 for `break_cycles`) brings the default rate back.

    Members
    -------
    rx, tx: the serial line; `rx` may be asynchronous.
    reset: resets link and core, and brings the default rate back. The UART goes on: a byte that is
    leaving leaves whole, one that is coming in is received and dropped. So neither side takes half
    a byte for a whole one.
    busy: a request is at work or a reply on its way.
    active: a byte comes in or leaves. error: a pulse per framing error, damaged or lost frame, and
    run stopped at its cycle limit.
    udp, ip, where there is Ethernet: `datagrams.UDP`, and the board's address.
    dram, dram_control: see `Top`.
    """

    def __init__(self, config: CoreConfig, *, core: wiring.Component | None = None,
                 default_baud: int = DEFAULT_BAUD, break_cycles: int = 1 << 18, build: int = 0,
                 ethernet: bool = False):
        divisor_for(config.clock_hz, default_baud)  # refuses an impossible rate here
        self._config, self._core, self._ethernet = config, core, ethernet
        self._baud, self._break, self._build = default_baud, break_cycles, build
        super().__init__({
            "rx": In(1, init=1), "tx": Out(1, init=1), "reset": In(1), "busy": Out(1),
            "active": Out(1), "error": Out(1),
        } | ({"udp": Out(UDP), "ip": Out(32)} if ethernet else {})
          | memory_ports(config))

    def elaborate(self, platform):
        m = Module()
        m.submodules.top = top = Top(self._config, core=self._core, default_baud=self._baud,
                                     build=self._build, ethernet=self._ethernet)
        for name in memory_ports(self._config):
            wiring.connect(m, getattr(top, name), wiring.flipped(getattr(self, name)))
        m.submodules.receiver = receiver = UartReceiver(break_cycles=self._break)
        m.submodules.sender = sender = UartSender()
        divisor = Signal(20, init=divisor_for(self._config.clock_hz, self._baud))
        with m.If((~top.busy & sender.idle) | receiver.broken):
            m.d.sync += divisor.eq(top.divisor)
        from_line, busy, bytes_come = top.rx, top.busy, receiver.o.valid
        if self._ethernet:
            datagrams = Datagrams(self._config, build=self._build)
            m.submodules.datagrams = ResetInserter(self.reset)(datagrams)
            # The way out of the receive buffer ends here, before that into the link begins.
            m.d.sync += [top.rx.valid.eq(datagrams.link_rx.valid & ~self.reset),
                         top.rx.payload.eq(datagrams.link_rx.payload)]
            m.d.comb += datagrams.link_rx.ready.eq(1)
            wiring.connect(m, top.tx, datagrams.link_tx)
            wiring.connect(m, datagrams.serial_tx, sender.i)
            wiring.connect(m, wiring.flipped(self.udp), datagrams.udp)
            m.d.comb += [self.ip.eq(top.ip), datagrams.serial_broken.eq(receiver.broken)]
            from_line, busy = datagrams.serial_rx, top.busy | datagrams.busy
            bytes_come |= datagrams.link_rx.valid
        else:
            wiring.connect(m, top.tx, sender.i)
        m.d.comb += [
            receiver.rx.eq(self.rx), self.tx.eq(sender.tx), self.busy.eq(busy),
            from_line.payload.eq(receiver.o.payload), from_line.valid.eq(receiver.o.valid),
            top.reset.eq(self.reset), top.restore_divisor.eq(receiver.broken),
            receiver.divisor.eq(divisor), sender.divisor.eq(divisor),
        ]
        m.d.sync += [self.active.eq(bytes_come | ~sender.idle),
                     self.error.eq(receiver.error | top.error)]
        return m
