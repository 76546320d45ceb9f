"""Controller of an SDR SDRAM chip of 16 bits behind the core's DRAM port.

In order, one row open at a time: a stream's block of 64 words lies in a row, so a second open bank
would save 4 of some 130 cycles. Two cycles a word, as the chip's 16 pins allow.

Its cycles depend on what is asked for since it last rested, not on the time of day: the interval
between refreshes begins anew with the refresh that ends a rest. So a run takes the same cycles
whenever it begins, and `sw.core.steps.sdram` has exactly these.
"""

from __future__ import annotations

from enum import IntEnum

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .config import CoreConfig
from .sdram_timing import BANKS, BURST, CAS_LATENCY, CHIP, HALF, ROW_WORDS, SdramChip, cycles
from .stream import DramPort

ROW_BITS = 13
ALL_BANKS = 1 << 10
"""Address bit of PRECHARGE: all banks."""

MODE = CAS_LATENCY << 4 | (BURST - 1).bit_length()
"""Of the chip: sequential bursts."""

REFRESHES = 8
"""Before the chip's mode is loaded."""


class Command(IntEnum):
    """To the chip: bits ras, cas, we, the least significant first."""

    NONE = 0b000
    ACTIVATE = 0b001
    READ = 0b010
    REFRESH = 0b011
    PRECHARGE = 0b101
    WRITE = 0b110
    MODE = 0b111


class SdramPins(wiring.Signature):
    """A chip's pins, all of them active high, a register before its pads: what is put here in a
    cycle is at the pads in the next. The chip's clock comes with the pads.

    command: see `Command`. mask: of bytes that are not written. drive: data_out is put on the
    data lines.
    """

    def __init__(self):
        super().__init__({
            "enable": Out(1), "command": Out(3), "bank": Out(2), "address": Out(ROW_BITS),
            "mask": Out(HALF // 8), "data_out": Out(HALF), "drive": Out(1), "data_in": In(HALF),
        })


class Sdram(wiring.Component):
    """Takes a command of the port every BURST cycles at most.

    A word to write is taken with its WRITE, when all reads before have come. A command waits while
    the chip is initialised. Not to be reset with the core: the memory would miss refreshes; a reset
    initialises the chip anew.

    Parameters
    ----------
    config: `config.dram_words` of 32 bits: column, row, and in the highest bits the bank.
    chip: its rules.

    Members
    -------
    port: of its user. pins: of the chip.
    """

    def __init__(self, config: CoreConfig, chip: SdramChip = CHIP):
        self._words, self._cycles = config.dram_words, cycles(config.clock_hz, chip)
        super().__init__({"port": In(DramPort()), "pins": Out(SdramPins())})

    def elaborate(self, platform):
        m = Module()
        t, port = self._cycles, self.port
        rows = self._words // (BANKS * ROW_WORDS)
        place = data.StructLayout({"column": range(ROW_WORDS), "row": range(rows),
                                   "bank": range(BANKS)})
        held, waiting, write = Signal(place), Signal(), Signal()
        opened, is_open = Signal(place), Signal()   # the open row; its column is of no account
        # Cycles until a command may follow; until the row may be closed; since the last refresh;
        # without a command; until the refresh that ends a rest.
        until_next, until_close = Signal(range(max(t))), Signal(range(max(t)))
        since, idle, until_awake = (Signal(range(n + 1)) for n in (t.interval, t.rest, t.wake))
        waking, due, free, closable = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            port.cmd_ready.eq(~waiting), free.eq(until_next == 0), closable.eq(until_close == 0),
            due.eq(Mux(waking, until_awake == 0, since == t.interval)),
        ]
        m.d.sync += [
            until_next.eq(until_next - ~free), until_close.eq(until_close - ~closable),
            since.eq(since + (since != t.interval)), idle.eq(idle + (idle != t.rest)),
            until_awake.eq(until_awake - (until_awake != 0)),
        ]
        chosen, done, reads = Signal(3), Signal(), Signal()
        coming = Signal(t.latency)      # words that are read: bit n, there n + 1 cycles ago
        with m.FSM():
            with m.State("POWER UP"):
                start = Signal(range(t.init + 1))
                m.d.sync += start.eq(start + 1)
                with m.If(start == t.init):
                    m.d.comb += chosen.eq(Command.PRECHARGE)
                    m.next = "SET UP"
            with m.State("SET UP"):
                refreshes = Signal(range(REFRESHES + 1))
                with m.If(free):
                    m.d.sync += refreshes.eq(refreshes + 1)
                    m.d.comb += chosen.eq(Command.REFRESH)
                    with m.If(refreshes == REFRESHES):
                        m.d.comb += chosen.eq(Command.MODE)
                        m.next = "WORK"
            with m.State("WORK"):
                with m.If(~free | (waking & ~due)):
                    pass
                with m.Elif(due):
                    with m.If(closable):
                        m.d.comb += chosen.eq(Command.PRECHARGE)
                        m.d.sync += waking.eq(0)
                        m.next = "REFRESH"
                with m.Elif(waiting & ~is_open):
                    m.d.comb += chosen.eq(Command.ACTIVATE)
                with m.Elif(waiting & ((held.row != opened.row) | (held.bank != opened.bank))):
                    m.d.comb += chosen.eq(Mux(closable, Command.PRECHARGE, Command.NONE))
                with m.Elif(waiting & ~write):
                    m.d.comb += chosen.eq(Command.READ)
                with m.Elif(waiting & port.wdata_valid & ~coming.any()):
                    m.d.comb += chosen.eq(Command.WRITE)
            with m.State("REFRESH"):
                with m.If(free):
                    m.d.comb += chosen.eq(Command.REFRESH)
                    m.next = "WORK"

        # What a command entails.
        then = {Command.ACTIVATE: t.rcd, Command.READ: t.burst, Command.WRITE: t.burst,
                Command.PRECHARGE: t.rp, Command.REFRESH: t.rfc, Command.MODE: t.mrd}
        with m.Switch(chosen):
            for command, cycles_of_it in then.items():
                with m.Case(command):
                    m.d.sync += until_next.eq(cycles_of_it - 1)
            with m.Case(Command.NONE):
                pass
        with m.Switch(chosen):
            with m.Case(Command.ACTIVATE):
                m.d.sync += [opened.eq(held), is_open.eq(1), until_close.eq(t.ras - 1)]
            with m.Case(Command.PRECHARGE):
                m.d.sync += is_open.eq(0)
            with m.Case(Command.REFRESH):
                m.d.sync += since.eq(0)
            with m.Case(Command.READ):
                m.d.comb += [done.eq(1), reads.eq(1)]
            with m.Case(Command.WRITE):
                m.d.comb += [done.eq(1), port.wdata_ready.eq(1)]
                with m.If(until_close < t.recovery):
                    m.d.sync += until_close.eq(t.recovery - 1)
        with m.If(done):
            m.d.sync += waiting.eq(0)

        # Behind the choice: a rest may end in the very cycle in which one of its refreshes begins.
        taken = port.cmd_valid & port.cmd_ready
        with m.If(taken):
            m.d.sync += [waiting.eq(1), write.eq(port.cmd_we), held.eq(port.cmd_addr)]
        with m.If(taken & (idle == t.rest)):
            m.d.sync += [waking.eq(1), until_awake.eq(t.wake)]
        with m.If(taken | waiting):
            m.d.sync += idle.eq(0)

        self._lines(m, chosen, held, reads, coming)
        return m

    def _lines(self, m, chosen, held, reads, coming):
        """The chip's lines for the command, and the halves of words in both directions."""
        port, pins = self.port, self.pins
        upper = Signal(data.StructLayout({"word": HALF, "mask": HALF // 8}))
        second, lower = Signal(), Signal(HALF)  # cycle of a WRITE; half of a word that is read
        writes = port.wdata_ready
        m.d.sync += [
            pins.enable.eq(1), pins.command.eq(chosen), pins.bank.eq(held.bank),
            second.eq(writes), upper.word.eq(port.wdata_data[HALF:]),
            upper.mask.eq(~port.wdata_we[HALF // 8:]),
            pins.drive.eq(writes | second),
            pins.data_out.eq(Mux(writes, port.wdata_data, upper.word)),
            pins.mask.eq(Mux(writes, ~port.wdata_we, Mux(second, upper.mask, 0))),
            coming.eq(Cat(reads, coming)), lower.eq(pins.data_in),
            port.rdata_data.eq(Cat(lower, pins.data_in)),
        ]
        m.d.comb += port.rdata_valid.eq(coming[-1])
        with m.Switch(chosen):
            with m.Case(Command.ACTIVATE):
                m.d.sync += pins.address.eq(held.row)
            with m.Case(Command.PRECHARGE):
                m.d.sync += pins.address.eq(ALL_BANKS)
            with m.Case(Command.MODE):
                m.d.sync += [pins.address.eq(MODE), pins.bank.eq(0)]
            with m.Default():
                m.d.sync += pins.address.eq(Cat(Const(0, 1), held.column))
