"""Between a core's DRAM port and LiteDRAM's controller of DDR3: every word comes `LATENCY` cycles
behind its command.

LiteDRAM refreshes by a timer of its own, so what a read takes depends on when it is asked for. The
core must not see that, or a run's cycles would depend on the moment in which it begins. So words
wait here until their time has come; the controller is four times as fast as the port, and has its
lines there long before (docs/memory.md has the figures). Should one be late all the same, those
behind it are as late: no word is wrong or lost.

A line of the controller is four words. Words that are asked for in order are one read of a line;
LiteDRAM's own converter of widths takes the same reads together, but sends each word's time of
arrival on to its user.
"""

from __future__ import annotations

from amaranth import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from .config import WORD_BITS, CoreConfig
from .core import HostBus
from .ddr3_control import CONTROL_BITS, LATENCY, LINE_WORDS
from .stream import WORDS_BITS, DramPort

LINES = 32
"""Of the controller that are asked for and not handed on, at most: two blocks of the streamer's."""

LINE_BITS = LINE_WORDS * WORD_BITS

LINE_ADDRESS_BITS = 24
"""Of the controller's addresses, for 256 MB."""

PATIENCE = 1 << 6
"""Cycles after which a register of the controller that does not answer is given up."""


class LinePort(wiring.Signature):
    """A native user port of LiteDRAM: a `stream.DramPort` of lines, seen from who uses it.

    A written line has to be there when its command is taken, and lines that were read are taken at
    once: the controller waits for neither.
    """

    def __init__(self):
        super().__init__({
            "cmd_valid": Out(1), "cmd_ready": In(1), "cmd_we": Out(1),
            "cmd_addr": Out(LINE_ADDRESS_BITS),
            "wdata_valid": Out(1), "wdata_ready": In(1), "wdata_data": Out(LINE_BITS),
            "wdata_we": Out(LINE_BITS // 8),
            "rdata_valid": In(1), "rdata_ready": Out(1), "rdata_data": In(LINE_BITS),
        })


class ControlPort(wiring.Signature):
    """Registers of the controller, seen from who uses them: a classic Wishbone bus."""

    def __init__(self):
        super().__init__({
            "cyc": Out(1), "we": Out(1), "adr": Out(CONTROL_BITS), "dat_w": Out(WORD_BITS),
            "dat_r": In(WORD_BITS), "ack": In(1),
        })


def instance_ports(signature: wiring.Signature, port) -> list[tuple[str, str, object]]:
    """(i or o, name, signal) of what is behind a port: its user's outputs are inputs there."""
    return [("i" if member.flow == Out else "o", name, getattr(port, name))
            for name, member in signature.members.items()]


def memory_ports(config: CoreConfig) -> dict[str, wiring.Member]:
    """What a top level has of a core's memory, by name: its port, and the controller's registers.
    """
    return (({"dram": Out(DramPort())} if config.dram_words else {})
            | ({"dram_control": Out(ControlPort())} if config.ddr3 else {}))


class Ddr3Buffer(wiring.Component):
    """See the module. Takes a command a cycle; after one to write, none until its word is written.

    latency: cycles from a command to its word.

    Members
    -------
    port: of its user. lines: to the controller. ready: the controller is initialised; without that
    no command is taken, and what was on its way is forgotten.
    """

    def __init__(self, latency: int = LATENCY):
        self._latency = latency
        super().__init__({"port": In(DramPort()), "lines": Out(LinePort()), "ready": In(1)})

    def elaborate(self, platform):
        m = Module()
        port, lines = self.port, self.lines
        m.submodules.commands = commands = SyncFIFO(width=1 + WORDS_BITS - 2, depth=LINES)
        m.submodules.arrived = arrived = SyncFIFO(width=LINE_BITS, depth=LINES)
        address = data.View(data.StructLayout({"lane": 2, "line": WORDS_BITS - 2}), port.cmd_addr)

        self._commands(m, commands, address, wants := Signal(), runs := Signal(), pops := Signal())

        # A word's lane, and whether it is the first of a line, until its time has come.
        n = self._latency - 1
        valid, first = Signal(n), Signal(n, reset_less=True)
        lane = Signal(data.ArrayLayout(2, n), reset_less=True)
        held = Signal()     # the line that is shown has given a word
        with m.If(runs):
            m.d.sync += [
                valid.eq(Cat(port.cmd_valid & port.cmd_ready & ~port.cmd_we, valid)),
                first.eq(Cat(wants, first)), lane.eq(Cat(address.lane, lane)),
            ]
        due, soon = valid[-1], valid[-2] & first[-2]
        m.d.comb += [
            runs.eq(~due | arrived.r_rdy), pops.eq((held | due) & soon & runs),
            arrived.r_en.eq(pops),
            arrived.w_en.eq(lines.rdata_valid), arrived.w_data.eq(lines.rdata_data),
            lines.rdata_ready.eq(1),
        ]
        with m.If(due & runs):
            m.d.sync += held.eq(1)
        with m.If(pops):
            m.d.sync += held.eq(0)
        m.d.sync += [
            port.rdata_valid.eq(due & runs),
            port.rdata_data.eq(arrived.r_data.word_select(lane[n - 1], WORD_BITS)),
        ]
        return ResetInserter(~self.ready)(m)

    def _commands(self, m, commands, address, wants, runs, pops):
        """From the port to the controller. wants: a line is asked for; runs: no word is late; pops:
        a line has been handed on."""
        port, lines = self.port, self.lines
        # A line that is there may be read again, from its second word on.
        last, same, taken = Signal(WORDS_BITS - 2), Signal(), Signal()
        asked = Signal(range(LINES + 1))    # lines on their way, and those that wait here
        place, writing, told = Signal(WORDS_BITS), Signal(), Signal()
        m.d.comb += [
            port.cmd_ready.eq(self.ready & runs & ~writing & (asked != LINES)),
            taken.eq(port.cmd_valid & port.cmd_ready),
            wants.eq(taken & ~port.cmd_we
                     & (~same | (address.line != last) | (address.lane == 0))),
        ]
        m.d.sync += asked.eq(asked + wants - pops)
        with m.If(taken):
            m.d.sync += [last.eq(address.line), same.eq(~port.cmd_we), place.eq(port.cmd_addr),
                         writing.eq(port.cmd_we)]

        # A word to write is there before the controller hears of it.
        tells = writing & port.wdata_valid & ~told & commands.w_rdy
        m.d.comb += [
            commands.w_en.eq(wants | tells),
            commands.w_data.eq(Cat(Mux(writing, place[2:], address.line), writing)),
            lines.cmd_valid.eq(commands.r_rdy), commands.r_en.eq(lines.cmd_ready),
            lines.cmd_addr.eq(commands.r_data[:WORDS_BITS - 2]),
            lines.cmd_we.eq(commands.r_data[-1]),
            lines.wdata_valid.eq(told), port.wdata_ready.eq(told & lines.wdata_ready),
            lines.wdata_data.eq(port.wdata_data.replicate(LINE_WORDS)),
            lines.wdata_we.word_select(place[:2], WORD_BITS // 8).eq(
                Mux(port.wdata_valid, port.wdata_we, 0)),
        ]
        with m.If(tells):
            m.d.sync += told.eq(1)
        with m.If(told & lines.wdata_ready):
            m.d.sync += [told.eq(0), writing.eq(0)]


class ControlBridge(wiring.Component):
    """The host's way to the registers of the controller, in `Space.DRAM_CONTROL`.

    bus: enabled for that space only; every access is answered, with ones where no register does
    within PATIENCE cycles. control: the registers.
    """

    def __init__(self):
        super().__init__({"bus": In(HostBus()), "control": Out(ControlPort())})

    def elaborate(self, platform):
        m = Module()
        bus, control, waited = self.bus, self.control, Signal(range(PATIENCE))
        given_up, ends = waited == PATIENCE - 1, Signal()
        m.d.comb += ends.eq(control.cyc & (control.ack | given_up))
        m.d.sync += [
            bus.w_done.eq(ends & control.we), bus.r_valid.eq(ends & ~control.we),
            bus.r_data.eq(Mux(control.ack, control.dat_r, -1)), waited.eq(waited + control.cyc),
        ]
        with m.If(bus.w_en | bus.r_en):
            m.d.sync += [control.cyc.eq(1), control.we.eq(bus.w_en), control.adr.eq(bus.addr),
                         control.dat_w.eq(bus.w_data), waited.eq(0)]
        with m.If(ends):
            m.d.sync += control.cyc.eq(0)
        return m
