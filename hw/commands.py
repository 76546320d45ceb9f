"""Does what the host's requests ask for, one after another, and words the replies."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from . import layouts, registers
from .config import CoreConfig
from .core import HostBus
from .framing import WORD
from .packing import Unpacker
from .registers import PROTOCOL, Space, Status

REQUEST = layouts.words(registers.REQUEST)
REPLY = layouts.words(registers.REPLY)
REQUEST_WORDS = len(registers.REQUEST)
REPLY_WORDS = len(registers.REPLY)
MOST_WAITING = registers.BUFFER_WORDS // (REQUEST_WORDS + 2)
"""Requests that the buffer can hold."""


class Commands(wiring.Component):
    """A request is, in this order, an optional write, an optional run and an optional read.

    Members
    -------
    requests: good frames as `framing.FrameReceiver` hands them on.
    fault: a pulse per damaged frame, `fault_status` says how; answered when no request is at work.
    sync_kept, sync_lost: a pulse per frame with `sync` that is among `requests` now, or found no
    room there.
    replies, quiet, clear, digest, sender_idle: of the `framing.FrameSender`.
    bus: memories. start, first_layer_address, stop_after, done: of the core.
    core_reset: a pulse that resets the core (its memories keep their content); 1 in reset too.
    timeout: a pulse when a run is stopped at its cycle limit.
    run_fault: with DRAM, of the core: OK, or why a run cannot go on.

    After a reset every request is refused until one with `sync`. A request answered with an error
    has had no effect, except a run that timed out or was stopped. The request before the expected
    one is answered again without being done again. A run ends after its cycle limit at the latest,
    so every request is answered. As soon as a `sync` waits, a run ends, a read breaks off, and what
    waits before it is not done. Each reply tells the epoch (`registers.next_epoch`), which proves
    all that was done since the reset, and by whom.

    A write takes one cycle a word (an expanding or packed one as long as `packing.Unpacker` does),
    a read at least 3; the sender needs 4.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        super().__init__({
            "requests": In(stream.Signature(32)),
            "fault": In(1), "fault_status": In(Status), "sync_kept": In(1), "sync_lost": In(1),
            "replies": Out(stream.Signature(WORD)),
            "quiet": Out(1), "clear": Out(1), "digest": In(32), "sender_idle": In(1),
            "bus": Out(HostBus()),
            "start": Out(1), "first_layer_address": Out(range(config.program_words)),
            "stop_after": Out(8), "done": In(1), "core_reset": Out(1, init=1),
            "timeout": Out(1), "idle": Out(1),
        } | ({"run_fault": In(Status)} if config.dram_words else {}))

    def elaborate(self, platform):
        m = Module()
        header = Signal(REQUEST)
        index = Signal(range(max(REQUEST_WORDS, REPLY_WORDS)))
        payload = Signal(range(registers.FRAME_WORDS))  # words to take from the request
        expected, synced, repeat = Signal(16), Signal(), Signal()
        fault = Signal(Status)   # a frame was lost and the host does not know yet
        status, last_status = Signal(Status), Signal(Status)
        seq, count, left, cycles = Signal(16), Signal(16), Signal(16), Signal(32)
        word, last_word = Signal(32), Signal()
        epoch, chained = Signal(32), Signal()   # chained: this request advances the epoch
        # A request to start anew waits: in the buffer, so many of them, or it found no room there.
        syncs, jammed = Signal(range(MOST_WAITING + 1)), Signal()
        sync_taken, void = Signal(), Signal()
        m.d.comb += void.eq((syncs != 0) | jammed)
        m.d.sync += syncs.eq(syncs + self.sync_kept - sync_taken)

        reply = Signal(REPLY)
        m.d.comb += [
            reply.version.eq(PROTOCOL), reply.reply.eq(1), reply.status.eq(status),
            reply.seq.eq(seq), reply.expected.eq(expected), reply.count.eq(count),
            reply.cycles.eq(cycles), reply.epoch.eq(epoch),
        ]
        # The write: words of memory in all, whether any is left, whether they are unpacked, and
        # what is wrong with the number that a packed one begins with.
        most = max(4 * registers.FRAME_WORDS, *registers.space_words(self._config).values())
        writes, more, coded = Signal(range(most + 1)), Signal(), Signal()
        no_number, too_many = Signal(), Signal()
        after = Signal(24)
        unpacker = Unpacker()
        writing = Signal()
        m.submodules.unpacker = ResetInserter(~writing)(unpacker)
        m.d.comb += [
            unpacker.packed.eq(header.packed), unpacker.mask.eq(header.expand),
            after.eq(header.write_addr + 1),
            unpacker.ended.eq(payload == 0), unpacker.i.payload.eq(self.requests.payload),
            self.first_layer_address.eq(header.start),
            self.stop_after.eq(header.stop_after),
            self.bus.space.eq(Mux(self.bus.w_en, header.write_space, header.read_space)),
            self.bus.addr.eq(Mux(self.bus.w_en, header.write_addr, header.read_addr)),
            self.bus.w_data.eq(Mux(coded, unpacker.o.payload, self.requests.payload)),
        ]

        def next_address():
            return header.read_addr.eq(header.read_addr + header.read_stride)

        # A write to DRAM or its controller takes as long as that likes.
        dram, slow = self._config.dram_words > 0, Signal()
        late = [space for space in (Space.DRAM, Space.DRAM_CONTROL)
                if space in registers.space_words(self._config)]
        if dram:
            m.d.sync += slow.eq((slow & ~self.bus.w_done)
                                | (self.bus.w_en & self.bus.space.matches(*late)))

        # Worked out all the time, a cycle for each step: right from DECIDE on, `end` from CHECK on.
        end = Signal(26)
        foreign, possible = Signal(), Signal(Status)
        is_next, is_again = Signal(), Signal()
        m.d.comb += foreign.eq((header.version != PROTOCOL) | header.reply)
        m.d.sync += [
            more.eq(Mux(self.bus.w_en, (after ^ end)[:len(writes)].any(),
                        (header.write_addr ^ end)[:len(writes)].any())),
            possible.eq(Mux(foreign, Status.VERSION, self._verdict(
                m, header, payload, end, no_number, too_many))),
            is_next.eq(header.sync | (synced & (header.seq == expected))),
            is_again.eq(synced & ((header.seq + 1)[:16] == expected)),
        ]
        m.d.sync += [self.core_reset.eq(0), self.clear.eq(0)]
        with m.FSM() as fsm:
            m.d.comb += self.idle.eq(fsm.ongoing("IDLE") & ~self.requests.valid & (fault == 0))

            with m.State("IDLE"):
                m.d.sync += [index.eq(0), repeat.eq(0), count.eq(0),
                             no_number.eq(0), too_many.eq(0), chained.eq(0)]
                with m.If(~self.requests.valid):
                    m.d.sync += jammed.eq(0)
                with m.If(fault != Status.OK):
                    m.d.sync += [status.eq(fault), seq.eq(expected), fault.eq(Status.OK)]
                    m.next = "REPLY"
                with m.Elif(self.requests.valid):
                    m.d.comb += self.requests.ready.eq(1)
                    m.d.sync += payload.eq(self.requests.payload - (REQUEST_WORDS + 1))
                    m.next = "HEADER"

            with m.State("HEADER"):
                m.d.comb += self.requests.ready.eq(1)
                with m.If(self.requests.valid):
                    m.d.sync += [index.eq(index + 1),
                                 header.eq(Cat(header.as_value()[32:], self.requests.payload))]
                    with m.If(index == REQUEST_WORDS - 1):
                        m.next = "NUMBER"

            with m.State("NUMBER"):     # of words to write
                expand = header.expand != 0
                m.d.sync += [writes.eq(Mux(expand, payload << 2, payload)),
                             coded.eq(expand | header.packed)]
                m.next = "MEASURE"
                with m.If(header.packed):
                    with m.If(payload == 0):
                        m.d.sync += no_number.eq(1)
                    with m.Elif(self.requests.valid):
                        m.d.comb += self.requests.ready.eq(1)
                        m.d.sync += [payload.eq(payload - 1), writes.eq(self.requests.payload),
                                     too_many.eq(self.requests.payload[len(writes):].any())]
                    with m.Else():
                        m.next = "NUMBER"

            with m.State("MEASURE"):
                m.d.sync += end.eq(header.write_addr + writes)
                m.next = "CHECK"

            with m.State("CHECK"):
                m.d.comb += sync_taken.eq(header.sync & ~foreign)
                m.d.sync += self.core_reset.eq(sync_taken)
                m.next = "DECIDE"
            with m.State("DECIDE"):
                verdict = Signal(Status)
                m.d.sync += [index.eq(0), seq.eq(header.seq), status.eq(verdict)]
                with m.If(possible == Status.VERSION):
                    m.d.comb += verdict.eq(Status.VERSION)
                with m.Elif(void):
                    m.d.comb += verdict.eq(Status.STOPPED)
                with m.Elif(is_next):
                    m.d.comb += verdict.eq(possible)
                    m.d.sync += [expected.eq(header.seq + 1), synced.eq(1), cycles.eq(0),
                                 last_status.eq(verdict),
                                 chained.eq(~header.sync | header.write | header.run)]
                with m.Elif(is_again):
                    m.d.comb += verdict.eq(last_status)
                    m.d.sync += repeat.eq(1)
                with m.Else():
                    m.d.comb += verdict.eq(Status.ORDER)
                m.next = "WRITE"

            with m.State("WRITE"):
                m.d.comb += writing.eq(1)
                with m.If((~more & ~slow) | (status != Status.OK) | repeat):
                    m.next = "DROP"
                with m.Elif(Mux(coded, unpacker.o.valid, self.requests.valid) & ~slow):
                    m.d.comb += [self.bus.w_en.eq(1), unpacker.o.ready.eq(coded)]
                    m.d.sync += header.write_addr.eq(after)
                with m.If(coded):
                    m.d.comb += [unpacker.i.valid.eq(self.requests.valid & (payload != 0)),
                                 self.requests.ready.eq(unpacker.i.ready & (payload != 0))]
                with m.Else():
                    m.d.comb += self.requests.ready.eq(self.bus.w_en)
                with m.If(self.requests.valid & self.requests.ready):
                    m.d.sync += payload.eq(payload - 1)

            with m.State("DROP"):   # what is left of the payload, all of it if nothing is done
                with m.If(payload == 0):
                    m.next = "CHAIN"
                with m.Elif(self.requests.valid):
                    m.d.comb += self.requests.ready.eq(1)
                    m.d.sync += payload.eq(payload - 1)

            with m.State("CHAIN"):  # the frame's CRC is what is left
                m.d.comb += self.requests.ready.eq(1)
                with m.If(self.requests.valid):
                    with m.If(chained):
                        m.d.sync += epoch.eq(registers.next_epoch(epoch, self.requests.payload))
                    m.next = "RUN"

            with m.State("RUN"):
                m.next = "READ OR NOT"
                with m.If((status == Status.OK) & header.run & ~repeat):
                    m.d.comb += self.start.eq(1)
                    m.next = "RUNNING"
            with m.State("RUNNING"):
                m.d.sync += cycles.eq(cycles + 1)
                with m.If(self.done):
                    m.next = "READ OR NOT"
                if dram:
                    with m.Elif(self.run_fault != Status.OK):
                        m.d.sync += [self.core_reset.eq(1), status.eq(self.run_fault),
                                     last_status.eq(self.run_fault)]
                        m.next = "READ OR NOT"
                with m.Elif(void | (cycles >= header.max_cycles)):
                    ended = Mux(void, Status.STOPPED, Status.TIMEOUT)
                    m.d.comb += self.timeout.eq(~void)
                    m.d.sync += [self.core_reset.eq(1), status.eq(ended), last_status.eq(ended)]
                    m.next = "READ OR NOT"

            with m.State("READ OR NOT"):
                m.d.sync += left.eq(header.read_count)
                m.next = "REPLY"
                with m.If((status == Status.OK) & header.read):
                    m.d.sync += count.eq(header.read_count)
                    with m.If(header.digest):
                        m.next = "DIGEST"
                        with m.If(~self.sender_idle):  # it still sends the reply before
                            m.next = "READ OR NOT"

            with m.State("DIGEST"):
                m.d.comb += self.quiet.eq(1)
                with m.If(left != 0):
                    m.d.comb += self.bus.r_en.eq(1)
                    m.next = "DIGEST WAIT"
                with m.Elif(self.sender_idle):
                    m.d.sync += [self.clear.eq(1), word.eq(self.digest), count.eq(1),
                                 last_word.eq(1)]
                    m.next = "REPLY"
            with m.State("DIGEST WAIT"):
                m.d.comb += self.quiet.eq(1)
                with m.If(self.bus.r_valid):
                    m.d.sync += [word.eq(self.bus.r_data), left.eq(left - 1), next_address()]
                    m.next = "DIGEST WORD"
            with m.State("DIGEST WORD"):
                m.d.comb += [self.quiet.eq(1), self.replies.valid.eq(1),
                             self.replies.payload.data.eq(word)]
                with m.If(self.replies.ready):
                    m.next = "DIGEST"

            with m.State("REPLY"):
                m.d.comb += [
                    self.replies.valid.eq(1),
                    self.replies.payload.data.eq(reply.as_value().word_select(index, 32)),
                    self.replies.payload.last.eq((index == REPLY_WORDS - 1) & (count == 0)),
                ]
                with m.If(self.replies.ready):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == REPLY_WORDS - 1):
                        with m.If(count == 0):
                            m.next = "IDLE"
                        with m.Elif(header.digest):
                            m.next = "READ WORD"
                        with m.Else():
                            m.next = "READ"
            with m.State("READ"):
                m.d.comb += self.bus.r_en.eq(1)
                m.next = "READ WAIT"
            with m.State("READ WAIT"):
                with m.If(self.bus.r_valid):
                    m.d.sync += [word.eq(self.bus.r_data), next_address(),
                                 last_word.eq((count == 1) | void)]
                    m.next = "READ WORD"
            with m.State("READ WORD"):
                m.d.comb += [self.replies.valid.eq(1), self.replies.payload.data.eq(word),
                             self.replies.payload.last.eq(last_word)]
                with m.If(self.replies.ready):
                    m.d.sync += count.eq(count - 1)
                    m.next = "READ"
                    with m.If(last_word):
                        m.next = "IDLE"

        # After the FSM: a fault that arrives while another is taken up must not be lost.
        with m.If(self.fault):
            m.d.sync += fault.eq(self.fault_status)
        with m.If(self.sync_lost):
            m.d.sync += jammed.eq(1)
        return m

    def _verdict(self, m, header, payload, end, no_number, too_many):
        """Status of a request that is due: OK, or why it cannot be done; `end` of its write."""
        verdict = Signal(Status)
        size = Signal(26)
        spaces = registers.space_words(self._config)
        with m.Switch(header.write_space):
            for space, words in spaces.items():
                if space != Space.COUNTER:
                    with m.Case(space):
                        m.d.comb += size.eq(words)
        unknown = (
            (header.unused != 0) | (~header.write & (header.packed | (payload != 0)))
            | no_number | (header.digest & ~header.read)
            | (header.read & (header.read_space > max(spaces)))
            | (header.write & ((header.write_space > max(spaces))
                               | (header.write_space == Space.COUNTER))))
        with m.If(unknown):
            m.d.comb += verdict.eq(Status.BAD_REQUEST)
        with m.Elif(header.write & (too_many | (end > size))):
            m.d.comb += verdict.eq(Status.RANGE)
        return verdict
