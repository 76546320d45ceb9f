"""The streamer: which places of a ring it writes, and which words count."""

from __future__ import annotations

from dataclasses import replace

from amaranth import Mux

from hw.config import STREAM_WORDS
from hw.registers import Status
from hw.stream import Streamer
from sim.formal.checkers import implies
from sim.formal.harness import Bench, proof
from sim.formal.small import SMALL

STREAMING = replace(SMALL, engines=2, weight_words=512, dram_words=1 << 12, ring_words=128)


@proof("stream.Streamer/rings", depth=2, reach=8, induction=True, quick=True,
       scope="2 rings of 128 words; a memory that does anything at any time, engines that free "
             "what counts when they like, any restarts, stops and accesses of the host")
def streamer_rings(f: Bench):
    """A word goes to a place of its engine's ring that holds none which is still needed, within the
    block behind the words that count; these are never more than the ring has, become more by a
    block whose check was right, and fewer by a restart or a stop."""
    streamer = Streamer(STREAMING)
    inner = f.open("streamer", streamer)
    bits, ring = len(inner["used"]), STREAMING.ring_words
    fsm, on_way, turn = inner["fsm"], inner["on_way"], inner["turn"]
    first, second = inner["first"], inner["second"]
    ended = streamer.restart | streamer.stop
    good = streamer.active & (streamer.fault == Status.OK)
    f.lemma("two_at_most", on_way != 3)
    f.lemma("one_of_both", ~(streamer.active & streamer.restarting))
    for e in range(STREAMING.engines):
        freed, limit = streamer.freed[e], streamer.limit[e]
        # What an engine frees counted before; at the beginning it has freed nothing.
        f.assume(implies(streamer.active, Mux(
            f.past(streamer.active), (freed - f.past(freed))[:bits] <= (
                f.past(limit) - f.past(freed))[:bits], freed == 0)))
        coming = (((on_way != 0) & (first.engine == e)) + ((on_way == 2) & (second.engine == e)))
        # Up to where blocks were asked for, with the one that is being asked for now.
        asked = inner["asked"][e] + Mux(fsm.ongoing("ASK") & (turn == e), STREAM_WORDS, 0)
        open_ = good & ~inner["ended"][e]
        f.lemma(f"nothing{e}", streamer.active | (limit == 0))
        f.lemma(f"up_to_asked{e}", implies(
            open_, asked[:bits] == (limit + STREAM_WORDS * coming)[:bits]))
        f.lemma(f"room{e}", implies(open_, (limit - freed)[:bits] + STREAM_WORDS * coming <= ring))
        f.lemma(f"chosen{e}", implies(
            open_ & fsm.ongoing("CHOOSE") & (turn == e),
            (inner["asked"][e] - freed)[:bits] <= inner["used"]))
        f.claim(f"fits{e}", implies(good, (limit - freed)[:bits] <= ring))
        writes = streamer.write & (streamer.write_engine == e)
        f.claim(f"free{e}", implies(writes, (streamer.write_word - freed)[:bits] < ring))
        f.claim(f"behind{e}", implies(
            writes, (streamer.write_word - limit)[:bits] < STREAM_WORDS))
        f.claim(f"counts{e}", implies(f.started, Mux(f.past(ended), limit == 0, (
            limit == f.past(limit)) | (f.past(inner["right"] & inner["ends"]) & (
                limit == (f.past(limit) + STREAM_WORDS)[:bits])))))
    f.cover("writes", streamer.write)
