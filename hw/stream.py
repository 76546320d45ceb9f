"""Weights from DRAM: fills every engine's ring ahead of its decoder, block by checked block.

`docs/memory.md` has the format of the streams. The memory is behind a plain port, like a user port
of LiteDRAM: it answers in order and takes as long as it likes.
"""

from __future__ import annotations

from amaranth import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .config import STREAM_BLOCK, STREAM_WORDS, WORD_BITS, CoreConfig
from .registers import Status

POLYNOMIAL = 0xEDB88320
"""Of the check, reflected: CRC-32 as `zlib.crc32`."""

PATIENCE = 1 << 12
"""Cycles without an answer after which the memory counts as dead."""

WORDS_BITS = 24
"""Of a word's address in DRAM."""


class DramPort(wiring.Signature):
    """A memory of 32-bit words, seen from who uses it.

    A command is taken with cmd_valid and cmd_ready, a written word (all its bytes) with wdata_valid
    and wdata_ready, in the order of the commands. Words that were read come in that order, too, one
    a cycle with rdata_valid; they are always taken.
    """

    def __init__(self):
        super().__init__({
            "cmd_valid": Out(1), "cmd_ready": In(1), "cmd_we": Out(1), "cmd_addr": Out(WORDS_BITS),
            "wdata_valid": Out(1), "wdata_ready": In(1), "wdata_data": Out(WORD_BITS),
            "wdata_we": Out(WORD_BITS // 8),
            "rdata_valid": In(1), "rdata_ready": Out(1), "rdata_data": In(WORD_BITS),
        })


def crc_step(state, word):
    """State of the CRC after one more word, for Amaranth's values: linear, so a sum of columns.

    `amaranth.lib.crc` begins with one state for all; here the block's number is in it.
    """
    def column(value: int) -> int:
        for _ in range(WORD_BITS):
            value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)
        return value

    columns = [column(1 << bit) for bit in range(WORD_BITS)]
    changed = (state ^ word)[:WORD_BITS]
    return Cat(Cat(changed[bit] for bit in range(WORD_BITS) if columns[bit] >> out & 1).xor()
               for out in range(WORD_BITS))


class Streamer(wiring.Component):
    """The one user of the DRAM: weights for all engines while the core runs, the host otherwise.

    From `restart` on the engines' streams come anew from their first block. An engine whose ring
    has room for a block gets its next one, one after the other in turn; two blocks are on their way
    at most. A block's words go to the ring as they come; they count (`limit`) as soon as the
    block's check is right. The last block of a stream says so; what was asked for behind it until
    then is dropped.

    Members
    -------
    port: the memory.
    restart: the streams begin anew. stop: they end, until the next restart. go: blocks may be asked
    for. quiet: none is on its way, nor asked for. restarting, active: between restart and stop;
    until old blocks are through, and then.
    fault: OK, or why the run cannot go on; from then on nothing comes, until the next restart or
    stop.
    freed, limit: of every engine, see `decoder.StreamPort`.
    write, write_engine, write_word, write_data: a word for an engine's ring.
    host_request, host_write, host_address, host_data: held until `host_done`, which comes with
    `host_read` within PATIENCE cycles and what is on its way before; a memory that is dead by then
    has not written, and reads as all ones.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        self._bits = bits = (config.weight_words - 1).bit_length()
        engines = range(config.engines)
        super().__init__({
            "port": Out(DramPort()), "restart": In(1), "stop": In(1), "go": In(1),
            "quiet": Out(1), "restarting": Out(1), "active": Out(1), "fault": Out(Status),
            "freed": In(data.ArrayLayout(bits, config.engines)),
            "limit": Out(data.ArrayLayout(bits, config.engines)),
            "write": Out(1), "write_engine": Out(engines), "write_word": Out(bits),
            "write_data": Out(WORD_BITS),
            "host_request": In(1), "host_write": In(1), "host_address": In(WORDS_BITS),
            "host_data": In(WORD_BITS), "host_done": Out(1), "host_read": Out(WORD_BITS),
        })

    def elaborate(self, platform):
        m = Module()
        cfg, port, bits = self._config, self.port, self._bits
        word_bits = (STREAM_BLOCK - 1).bit_length()
        block_bits = (cfg.stream_stride // STREAM_BLOCK - 1).bit_length()
        block = data.StructLayout({"number": block_bits, "engine": range(cfg.engines)})

        # Of every engine: up to where was asked for, its next block, whether there is none.
        asked = Array(Signal(bits, name=f"asked{n}") for n in range(cfg.engines))
        number = Array(Signal(block_bits, name=f"number{n}") for n in range(cfg.engines))
        ended = Array(Signal(name=f"ended{n}") for n in range(cfg.engines))
        freed, limit = Array(self.freed), Array(self.limit)
        turn, used, word = Signal(range(cfg.engines)), Signal(bits), Signal(word_bits)
        on_way, first, second = Signal(range(3)), Signal(block), Signal(block)
        begins, ends, dead = Signal(), Signal(), Signal()
        place = Signal(word_bits)       # of the word that comes next in its block
        taken, written = Signal(), Signal()     # the host's command, and its word
        next_turn = turn.eq(Mux(turn == cfg.engines - 1, 0, turn + 1))

        m.d.comb += [
            port.rdata_ready.eq(1), port.wdata_data.eq(self.host_data), port.wdata_we.eq(-1),
        ]
        m.d.sync += [self.host_done.eq(0), self.host_read.eq(port.rdata_data)]
        with m.FSM() as fsm:
            asking, hosting = fsm.ongoing("ASK"), fsm.ongoing("HOST")
            m.d.comb += self.quiet.eq(~asking & (on_way == 0))
            with m.State("LOOK"):
                m.d.sync += [
                    used.eq(asked[turn] - freed[turn]), word.eq(0), taken.eq(0), written.eq(0),
                ]
                with m.If((on_way == 0) & self.restarting):
                    # What a memory that was given up brought late has moved the place.
                    m.d.sync += [
                        self.restarting.eq(0), self.active.eq(1), turn.eq(0), place.eq(0),
                    ]
                    for n in range(cfg.engines):
                        m.d.sync += [asked[n].eq(0), number[n].eq(0), ended[n].eq(0)]
                with m.Elif((on_way == 0) & self.host_request & ~self.host_done):
                    m.next = "HOST"
                # At rest in this state, so that a run's cycles do not depend on when it begins.
                with m.Elif(self.active & self.go & ~self.restart):
                    m.next = "CHOOSE"
            with m.State("CHOOSE"):
                m.d.comb += begins.eq(
                    self.active & ~ended[turn] & ~on_way[1] & (self.fault == Status.OK)
                    & (used <= cfg.ring_words - STREAM_WORDS))
                m.next = "ASK"
                with m.If(~begins):
                    m.d.sync += next_turn
                    m.next = "LOOK"
            with m.State("ASK"):
                m.d.comb += [
                    port.cmd_valid.eq(1), port.cmd_addr.eq(Cat(word, number[turn], turn)),
                ]
                with m.If(port.cmd_ready):
                    m.d.sync += word.eq(word + 1)
                    with m.If(word == STREAM_BLOCK - 1):
                        m.d.sync += [
                            number[turn].eq(number[turn] + 1),
                            asked[turn].eq(asked[turn] + STREAM_WORDS), next_turn,
                        ]
                        m.next = "LOOK"
                with m.If(dead):
                    m.next = "LOOK"
            with m.State("HOST"):
                m.d.comb += [
                    port.cmd_valid.eq(~taken), port.cmd_we.eq(self.host_write),
                    port.cmd_addr.eq(self.host_address),
                    port.wdata_valid.eq(self.host_write & ~written),
                ]
                command, word_taken = taken | port.cmd_ready, written | port.wdata_ready
                m.d.sync += [taken.eq(command), written.eq(word_taken)]
                with m.If(Mux(self.host_write, command & word_taken, port.rdata_valid) | dead):
                    m.d.sync += self.host_done.eq(1)
                    m.next = "LOOK"

        # What arrives: a cycle later to the ring, and through the check.
        came, come, content = Signal(), Signal(), Signal(WORD_BITS)
        crc, before = Signal(WORD_BITS), Signal(WORD_BITS)
        right, last, awaited = Signal(), Signal(), Signal()
        m.d.sync += [
            came.eq(port.rdata_valid & ~hosting & (on_way != 0)), content.eq(port.rdata_data),
        ]
        m.d.comb += [
            # A word behind the last one that was asked for is nobody's.
            come.eq(came & (on_way != 0)),
            before.eq(Mux(place == 0, Cat(first.number, first.engine) ^ Const(-1, WORD_BITS), crc)),
            ends.eq(come & (place == STREAM_BLOCK - 1)),
            last.eq(content == crc), right.eq(last | (content == ~crc)),
            awaited.eq(self.active & ~ended[first.engine] & (self.fault == Status.OK)),
            self.write.eq(come & awaited & (place != STREAM_BLOCK - 1)),
            self.write_engine.eq(first.engine), self.write_data.eq(content),
            self.write_word.eq(limit[first.engine] + place),
        ]
        with m.If(come):
            m.d.sync += [place.eq(place + 1), crc.eq(crc_step(before, content))]
        with m.If(ends & awaited):
            with m.If(right):
                m.d.sync += [limit[first.engine].eq(limit[first.engine] + STREAM_WORDS),
                             ended[first.engine].eq(last)]
            with m.Else():
                m.d.sync += self.fault.eq(Status.DAMAGED)
        with m.If(ends):
            m.d.sync += first.eq(second)
        with m.If(begins):
            chosen = Cat(number[turn], turn)
            with m.If(on_way == ends):
                m.d.sync += first.eq(chosen)
            with m.Else():
                m.d.sync += second.eq(chosen)
        m.d.sync += on_way.eq(on_way + begins - ends)

        # A memory that is silent: whatever it owes is forgotten.
        silent = Signal(range(PATIENCE))
        m.d.comb += dead.eq(silent == PATIENCE - 1)
        m.d.sync += silent.eq(silent + 1)
        with m.If(port.rdata_valid | (asking & port.cmd_ready)
                  | ~(asking | hosting | (on_way != 0))):
            m.d.sync += silent.eq(0)
        with m.If(dead):
            m.d.sync += [silent.eq(0), on_way.eq(0), place.eq(0), self.host_read.eq(-1)]
            with m.If(self.active | self.restarting):
                m.d.sync += self.fault.eq(Status.DAMAGED)

        with m.If(self.restart | self.stop):
            m.d.sync += [self.active.eq(0), self.restarting.eq(self.restart),
                         self.fault.eq(Status.OK)]
            # At once, or an engine would read what was there before.
            m.d.sync += [limit[n].eq(0) for n in range(cfg.engines)]
        return m
