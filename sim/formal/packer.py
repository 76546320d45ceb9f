"""The drain's packer: its words as a stream, and what is in them."""

from __future__ import annotations

from amaranth import Signal, Value

from hw.packer import Packer

from .checkers import Count, claim_held, claim_served, implies
from .harness import Bench, proof
from .small import SMALL, steady


@proof("packer.Packer/stream", depth=4, reach=12, induction=True, quick=True,
       scope="words of 8 positions; any layer, any visits")
def packer_stream(f: Bench):
    """A finished word waits unchanged until the arbiter takes it."""
    packer = f.place("packer", Packer(SMALL))
    claim_held(f, "o", packer.o)


@proof("packer.Packer/words", depth=26,
       scope="words of 8 positions; a layer without pools, one lane a visit")
def packer_words(f: Bench):
    """Every mask of a layer without pools lands once, in its lane of its word, whatever the
    arbiter's stalls; words come in order of their addresses, none is lost or doubled."""
    packer = f.place("packer", Packer(SMALL))
    layer, tag, window = packer.layer, packer.tag, SMALL.window
    steady(f, layer)
    for name, value in {"pair": 0, "pair_merge": 0, "readout": 0, "flush_strip": 0}.items():
        f.assume(layer[name] == value)
    # One endless pass: its first visit has `pass_first`.
    visit = Signal()
    seen, number = Signal(6), Signal(6)
    f.m.d.comb += visit.eq(tag.valid & packer.advance)
    f.m.d.sync += number.eq(number + visit)
    for name, value in {"window_first": 1, "window_last": 1, "row_end": 0, "phase_end": 0,
                        "parity": 0, "inside": 3, "inserts": tag.valid,
                        "ends": 0, "finishes": 0, "pass_first": number == 0}.items():
        f.assume(tag[name] == value)
    header = packer.header0
    steady(f, header)
    base = f.constant("base", len(packer.base0))
    f.m.d.comb += packer.base0.eq(base)
    f.assume(header.last_group == 0)

    written = packer.o.valid & packer.o.ready
    f.m.d.sync += seen.eq(seen + written)
    word = Value.cast(packer.o.payload.data)
    mark, mask, done = Signal(6), Signal(4), Signal()
    chosen = f.constant("chosen", 6)
    with f.m.If(visit & (number == chosen)):
        f.m.d.sync += [mark.eq(number), mask.eq(packer.spikes[0]), done.eq(1)]
    f.claim("mask_in_place", implies(
        written & done & (seen == mark >> 3), word.word_select(mark[:3], 4) == mask))
    f.claim("word_after_its_masks", implies(written, (seen + 1) * window <= number))
    f.claim("address_counts_up", implies(
        written, packer.o.payload.address == (base + seen)[:len(base)]))
    whole = Signal(6)
    f.m.d.comb += whole.eq(number >> 3)
    claim_served(f, "word", (whole != seen) & packer.o.ready, written, within=2)
    f.cover("third_word", written & (seen == 1))
    f.cover("marked_word", written & done & (seen == mark >> 3) & (mask == 5))


@proof("packer.Packer/readout", depth=6, induction=True, scope="words of 8 positions")
def packer_readout(f: Bench):
    """In a readout, every row that ends gives exactly one word."""
    packer = Packer(SMALL)
    inner = f.open("packer", packer)
    tag, layer = packer.tag, packer.layer
    steady(f, layer)
    f.assume(layer.readout & ~tag.inserts)     # drain.Drain/claims
    ends = tag.valid & packer.advance & tag.finishes
    count = Count(f, "row", push=ends, pop=packer.o.valid & packer.o.ready, capacity=2).count
    f.cover("two_rows", count == 2)
    f.lemma("places_count", count == inner["pending"] + inner["out_valid"])
    f.lemma("no_zero_words", inner["fill"] == 0)
    f.lemma("advances_if_it_can", packer.advance == ~(inner["pending"] & inner["out_valid"]))
    claim_served(f, "row", (count != 0) & packer.o.ready, packer.o.valid, within=2)
