"""Top level of every board: the link and the core behind a byte stream, and the same with a UART.

`Top` has no pins; the simulated board runs exactly this. `SerialTop` adds the bit timing.
"""

from __future__ import annotations

from amaranth import Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .config import CoreConfig
from .core import Core
from .link import Link
from .registers import DEFAULT_BAUD
from .uart import UartReceiver, UartSender, divisor_for


class Top(wiring.Component):
    """Link and core.

    rx, tx: bytes from and to the host; `rx` is always ready. busy: a request is at work or a reply
    on its way. divisor, restore_divisor: see `link.Link`.
    core: another core with the ports of `core.Core`, for tests.
    """

    def __init__(self, config: CoreConfig, *, core: wiring.Component | None = None):
        self._config, self._core = config, core
        super().__init__({
            "rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8)),
            "busy": Out(1), "divisor": Out(20), "restore_divisor": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        link = Link(self._config, divisor=divisor_for(self._config.clock_hz, DEFAULT_BAUD))
        m.submodules.link = link
        core = self._core or Core(self._config)
        m.submodules.core = ResetInserter(link.core_reset)(core)
        wiring.connect(m, wiring.flipped(self.rx), link.rx)
        wiring.connect(m, link.tx, wiring.flipped(self.tx))
        wiring.connect(m, link.bus, core.bus)
        m.d.comb += [
            core.start.eq(link.start), core.stop_after.eq(link.stop_after),
            core.first_layer_address.eq(link.first_layer_address), link.done.eq(core.done),
            self.busy.eq(link.busy), self.divisor.eq(link.divisor),
            link.restore_divisor.eq(self.restore_divisor),
        ]
        return m


class SerialTop(wiring.Component):
    """`Top` behind a UART.

    A new bit time takes effect when the reply to the request that set it has left. A break (the
    line at 0 for `break_cycles`) brings the default rate back.
    """

    def __init__(self, config: CoreConfig, *, core: wiring.Component | None = None,
                 break_cycles: int = 1 << 18):
        self._config, self._core, self._break = config, core, break_cycles
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "busy": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.top = top = Top(self._config, core=self._core)
        m.submodules.receiver = receiver = UartReceiver(break_cycles=self._break)
        m.submodules.sender = sender = UartSender()
        divisor = Signal(20, init=divisor_for(self._config.clock_hz, DEFAULT_BAUD))
        with m.If((~top.busy & sender.idle) | receiver.broken):
            m.d.sync += divisor.eq(top.divisor)
        wiring.connect(m, top.tx, sender.i)
        m.d.comb += [
            receiver.rx.eq(self.rx), self.tx.eq(sender.tx), self.busy.eq(top.busy),
            top.rx.payload.eq(receiver.o.payload), top.rx.valid.eq(receiver.o.valid),
            top.restore_divisor.eq(receiver.broken),
            receiver.divisor.eq(divisor), sender.divisor.eq(divisor),
        ]
        return m
