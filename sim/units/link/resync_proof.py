"""The link does not hang: how soon it is in step again, and that every request comes to its end."""

from __future__ import annotations

from unittest import mock

from amaranth import Cat, Const, Mux, Signal, Value

from hw import framing, registers
from hw.commands import Commands
from hw.config import PRESETS
from hw.framing import CobsDecoder, FrameReceiver
from hw.uart import FRACTION, UartReceiver
from sim.formal.checkers import assume_held, implies
from sim.formal.harness import Bench, look, proof

AFTER_ZERO = 1
"""A frame may begin so many cycles after the zero byte that ends whatever came before."""

DIVISOR = 64
"""Sixteenths of a cycle in a bit."""

AFTER_IDLE = -(-(11 * DIVISOR + DIVISOR // 2) // FRACTION) + 4
"""Cycles of an idle line after which the next start bit is taken for one: 11.5 bits, and 4 cycles
for the two flip-flops of the synchroniser and the rounding."""


def _receiver(f: Bench, name: str) -> tuple[FrameReceiver, Value]:
    """A receiver with the real CRC, and all of its state that judges frames."""
    decoder = CobsDecoder()
    inside = look(decoder)
    receiver = FrameReceiver(min_words=1, max_words=20, depth=64)
    with mock.patch.object(framing, "CobsDecoder", lambda: decoder):
        inner = f.open(name, receiver)
    f.lemma(f"{name}_not_empty", implies((inner["place"] != 0) | (inner["words"] != 0),
                                         ~inner["empty"]))
    return receiver, Cat(inside["left"], inside["implied"], inner["place"], inner["words"],
                         inner["empty"], inner["long"], inner["crc"].crc,
                         Mux(inner["empty"], 0, receiver.first))


@proof("framing.FrameReceiver/resync", depth=2, reach=12, induction=True, quick=True,
       scope="frames of 1 to 20 words in a buffer of 64, the real CRC")
def receiver_resync(f: Bench):
    """From the byte after a zero on, which may come in the next cycle, every frame is judged as by
    a receiver fresh from its reset, whatever came before the zero: damaged as damaged, any other as
    good or, where the buffer has no room, as an overrun."""
    receiver, state = _receiver(f, "receiver")
    fresh, fresh_state = _receiver(f, "fresh")
    zero = receiver.i.valid & (receiver.i.payload == 0)
    since = Signal(range(AFTER_ZERO + 1))   # the first zero
    f.m.d.sync += since.eq(Mux((since == 0) & ~zero, 0,
                               Mux(since == AFTER_ZERO, since, since + 1)))
    new = since == AFTER_ZERO
    f.assume(fresh.i.valid == (receiver.i.valid & new))
    f.assume(fresh.i.payload == receiver.i.payload)
    f.claim("same_bad", implies(new, receiver.bad == fresh.bad))
    f.claim("same_whole", implies(new, (receiver.good | receiver.overrun)
                             == (fresh.good | fresh.overrun)))
    f.claim("same_first", implies(new & (receiver.good | receiver.overrun),
                                  receiver.first == fresh.first))
    f.lemma("same_state", implies(new, state == fresh_state))
    # The reset state: all zero but `empty`.
    empty = len(state) - 8 - 32 - 2
    f.lemma("fresh_waits", implies(~new, fresh_state == 1 << empty))
    f.cover("frame_after_noise", new & f.past(~new) & f.past(state[:8] == 3))
    f.cover("first_word", new & (state[8 + 1 + 2:][:5] == 1))


@proof("uart.UartReceiver/resync", depth=AFTER_IDLE + 2, induction=True,
       scope="4 cycles a bit; the line is idle for 11.5 bits and 4 cycles")
def uart_resync(f: Bench):
    """After the line was 1 for that long the receiver waits for a start bit, whatever it received
    before: half a byte, a break, noise."""
    receiver = UartReceiver(break_cycles=16)
    inner = f.open("receiver", receiver)
    f.m.d.comb += receiver.divisor.eq(DIVISOR)
    idle = Signal(range(AFTER_IDLE + 1))
    f.m.d.sync += idle.eq(Mux(receiver.rx, Mux(idle == AFTER_IDLE, idle, idle + 1), 0))
    f.claim("waits", implies(idle == AFTER_IDLE, inner["left"] == 0))
    f.lemma("in_a_bit", implies(inner["left"] != 0, (inner["left"] <= 10)
                                & (inner["time"] <= DIVISOR) & (inner["time"] >= -2 * FRACTION)))
    started = Signal()
    f.m.d.sync += started.eq(started | (inner["left"] != 0))
    f.cover("after_a_start_bit", (idle == AFTER_IDLE) & started)


PHASES = (("IDLE",), ("READ WORD", "READ WAIT", "READ"), ("REPLY",),
          ("DIGEST WAIT", "DIGEST", "DIGEST WORD"), ("READ OR NOT",), ("RUNNING",), ("RUN",),
          ("CHAIN",), ("DROP",), ("WRITE",), ("DECIDE",), ("CHECK",), ("MEASURE",), ("NUMBER",),
          ("HEADER",))
"""States of `commands.Commands`, the last ones first; those of a loop together, in its order."""


@proof("commands.Commands/ends", depth=3, reach=24, induction=True, quick=True,
       scope="the tiny core; any requests, faults, memory answers and runs")
def commands_end(f: Bench):
    """A request comes to its end: a number made of the state and its counter falls in every cycle
    in which the command processor does not wait for somebody else (the rest of a request, an
    unpacked word, the sender, a memory), and never rises before it is idle again. A run counts
    its cycles and ends at the limit, or at once where a `sync` waits; so does a read, at its next
    word."""
    commands = Commands(PRESETS["tiny"])
    inner = f.open("commands", commands)
    assume_held(f, commands.requests)
    fsm, header, unpacker = inner["fsm"], inner["header"], inner["unpacker"]

    def at(*names: str) -> Value:
        return Cat(fsm.state == fsm.encoding[name] for name in names).any()

    left = Signal(len(inner["writes"]))
    f.m.d.comb += left.eq(inner["end"] - header.write_addr)
    counter, rank = Signal(32), Signal(32 + 8)
    for names, value in ((("HEADER",), 7 - inner["index"]), (("WRITE",), left),
                         (("DROP",), inner["payload"]), (("RUNNING",), ~inner["cycles"]),
                         (PHASES[3], inner["left"]), (("REPLY",), 7 - inner["index"]),
                         (PHASES[1], inner["count"])):
        with f.m.If(at(*names)):
            f.m.d.comb += counter.eq(value)
    for phase, names in enumerate(PHASES):
        for fine, name in enumerate(names):
            with f.m.If(at(name)):
                f.m.d.comb += rank.eq(Cat(Const(fine, 2), counter, Const(phase, 6)))
    coded = inner["coded"]
    writing = at("WRITE") & inner["more"] & (inner["status"] == 0) & ~inner["repeat"]
    waits = (
        (at("HEADER", "DROP", "CHAIN") & ~commands.requests.valid)
        | (at("NUMBER") & header.packed & ~commands.requests.valid)
        | (writing & Mux(coded, ~unpacker.o.valid, ~commands.requests.valid))
        | (at("READ OR NOT", "DIGEST") & ~commands.sender_idle)
        | (at("READ WAIT", "DIGEST WAIT") & ~commands.bus.r_valid)
        | (commands.replies.valid & ~commands.replies.ready))
    busy = f.past(~at("IDLE")) & f.past(f.started)
    f.claim("falls", implies(busy & ~f.past(waits), rank < f.past(rank)))
    f.claim("never_rises", implies(busy, rank <= f.past(rank)))
    f.claim("run_ends", implies(f.past(at("RUNNING") & (inner["cycles"] >= header.max_cycles)),
                                ~at("RUNNING")))
    f.claim("sync_ends_a_run", implies(f.past(at("RUNNING") & inner["void"]), ~at("RUNNING")))
    f.claim("sync_ends_a_read", implies(f.past(at("READ WAIT") & inner["void"])
                                        & at("READ WORD"), commands.replies.payload.last))
    f.lemma("a_state", at(*(name for names in PHASES for name in names)))
    f.lemma("more_is_left", implies(at("DECIDE", "WRITE"), inner["more"] == (left != 0)))
    f.lemma("header_index", implies(at("HEADER"), inner["index"] < 6))
    f.lemma("reply_index", implies(at("REPLY"), inner["index"] < 4))
    f.lemma("reads_its_last", implies(at("READ WORD") & (inner["count"] == 1), inner["last_word"]))
    f.lemma("nothing_counted_yet", implies(
        at(*(name for names in PHASES[6:] for name in names), "RUNNING"), inner["count"] == 0))
    f.lemma("nothing_to_read", implies(
        at("READ OR NOT") & ((inner["status"] != 0) | ~header.read), inner["count"] == 0))
    f.lemma("digest_is_last", implies(at("REPLY") & header.digest & (inner["count"] != 0),
                                      inner["last_word"]))
    f.lemma("something_to_read", implies(at(*PHASES[1]), inner["count"] != 0))
    f.lemma("something_to_digest", implies(at("DIGEST WAIT"), inner["left"] != 0))
    f.lemma("reply_from_its_start", implies(at("WRITE", "DROP", "CHAIN", "RUN", "RUNNING",
                                               "READ OR NOT", *PHASES[3]), inner["index"] == 0))
    f.cover("answered", busy & at("IDLE"))


@proof("commands.Commands/epoch", depth=3, reach=24, induction=True, quick=True,
       scope="the tiny core; any requests, faults, memory answers and runs")
def commands_epoch(f: Bench):
    """The epoch proves what was done: no memory is written and no run begins but for a request that
    advances it, once, by the CRC that ends the request's frame, before its run and its reply."""
    commands = Commands(PRESETS["tiny"])
    inner = f.open("commands", commands)
    assume_held(f, commands.requests)
    fsm, header, chained = inner["fsm"], inner["header"], inner["chained"]

    def at(*names: str) -> Value:
        return Cat(fsm.state == fsm.encoding[name] for name in names).any()

    taken = commands.requests.valid & commands.requests.ready
    advances = at("CHAIN") & taken & chained
    f.claim("writes_are_chained", implies(commands.bus.w_en, chained & at("WRITE")))
    f.claim("runs_are_chained", implies(commands.start, chained & at("RUN")))
    following = registers.next_epoch(f.past(inner["epoch"]), f.past(commands.requests.payload))
    f.claim("advances", inner["epoch"] == Mux(
        f.past(advances), following[:32], Mux(f.started, f.past(inner["epoch"]), 0)))
    f.claim("chain_before_the_run", implies(at("RUN") & f.started, f.past(at("CHAIN") & taken)
                                            & (chained == f.past(chained))))
    f.claim("stays_chained", implies(f.past(chained) & ~chained, f.past(at("IDLE"))))
    # A request that is done, and whose flags ask for nothing, writes nothing.
    done = (inner["status"] == 0) & ~inner["repeat"]
    plain = ~header.packed & (inner["payload"] == 0)
    f.lemma("nothing_to_write", implies(at("MEASURE") & plain, inner["writes"] == 0))
    f.lemma("end_is_the_start", implies(at("CHECK", "DECIDE") & plain,
                                        inner["end"] == header.write_addr))
    f.lemma("refused_with_words", implies(at("DECIDE") & ~header.write & ~plain,
                                          inner["possible"] != 0))
    f.lemma("more_is_left", implies(at("DECIDE", "WRITE"), inner["more"] == (
        (inner["end"] - header.write_addr)[:len(inner["writes"])] != 0)))
    f.lemma("not_decided_yet", implies(at("HEADER", "NUMBER", "MEASURE", "CHECK", "DECIDE"),
                                       ~chained))
    asks = ~header.sync | header.write | header.run
    f.lemma("chained_if_done", implies(at("WRITE", "DROP", "CHAIN", "RUN") & done & asks, chained))
    f.lemma("writes_if_asked", implies(at("WRITE") & done & ~header.write, ~inner["more"]))
    f.cover("advanced", f.past(advances) & (inner["epoch"] != 0))
