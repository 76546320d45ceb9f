"""The drain's packer: its words as a stream, and what is in them."""

from __future__ import annotations

from amaranth import Signal, Value

from hw.packer import Packer
from sim.formal.checkers import Count, claim_held, claim_served, implies
from sim.formal.harness import Bench, proof
from sim.formal.small import SMALL, steady


@proof("packer.Packer/stream", depth=4, reach=12, induction=True, quick=True,
       scope="words of 8 positions; any layer, any outputs")
def packer_stream(f: Bench):
    """A finished word waits unchanged until the arbiter takes it."""
    packer = f.place("packer", Packer(SMALL))
    claim_held(f, "o", packer.o)


@proof("packer.Packer/words", depth=26,
       scope="words of 8 positions; a layer without pools, one lane")
def packer_words(f: Bench):
    """Every mask of a layer without pools lands once, in its lane of its word, whatever the
    arbiter's stalls; words come in order of their addresses, none is lost or doubled."""
    packer = f.place("packer", Packer(SMALL))
    layer, item, window = packer.layer, packer.i.payload, SMALL.window
    steady(f, layer)
    for name, value in {"pair": 0, "pair_merge": 0, "readout": 0}.items():
        f.assume(layer[name] == value)
    # One endless pass: its first output has `first`.
    accepted = packer.i.valid & packer.i.ready
    seen, number = Signal(6), Signal(6)
    f.m.d.sync += number.eq(number + accepted)
    for name, value in {"inserts": 1, "row_end": 0, "phase_end": 0, "sequence_end": 0,
                        "finishes": 0, "pass_end": 0, "parity": 0,
                        "first": number == 0}.items():
        f.assume(item[name] == value)
    base = f.constant("base", len(packer.base0))
    f.m.d.comb += packer.base0.eq(base)

    written = packer.o.valid & packer.o.ready
    f.m.d.sync += seen.eq(seen + written)
    word = Value.cast(packer.o.payload.data)
    mark, mask, done = Signal(6), Signal(4), Signal()
    chosen = f.constant("chosen", 6)
    with f.m.If(accepted & (number == chosen)):
        f.m.d.sync += [mark.eq(number), mask.eq(item.masks[0]), done.eq(1)]
    f.claim("mask_in_place", implies(
        written & done & (seen == mark >> 3), word.word_select(mark[:3], 4) == mask))
    f.claim("word_after_its_masks", implies(written, (seen + 1) * window <= number))
    f.claim("address_counts_up", implies(
        written, packer.o.payload.address == (base + seen)[:len(base)]))
    whole = Signal(6)
    f.m.d.comb += whole.eq(number >> 3)
    claim_served(f, "word", (whole != seen) & packer.o.ready, written, within=4)
    f.cover("third_word", written & (seen == 1))
    f.cover("marked_word", written & done & (seen == mark >> 3) & (mask == 5))


@proof("packer.Packer/readout", depth=6, induction=True, scope="words of 8 positions")
def packer_readout(f: Bench):
    """In a readout, every row that ends gives exactly one word."""
    packer = Packer(SMALL)
    inner = f.open("packer", packer)
    item, layer = packer.i.payload, packer.layer
    steady(f, layer)
    f.assume(layer.readout & ~item.inserts)     # drain.Drain/claims
    ends = packer.i.valid & packer.i.ready & item.finishes
    count = Count(f, "row", push=ends, pop=packer.o.valid & packer.o.ready, capacity=3).count
    f.cover("three_rows", count == 3)
    here = inner["item_valid"] & inner["item"].finishes
    f.lemma("places_count", count == here + inner["pending"] + inner["out_valid"])
    f.lemma("no_masks", ~inner["inserts"])
    f.lemma("no_zero_words", inner["fill"] == 0)
    f.lemma("waits_when_full", implies(inner["pending"] & inner["out_valid"], ~packer.i.ready))
    f.lemma("waits_for_a_word", implies(~packer.i.ready, inner["pending"]))
    claim_served(f, "row", (count != 0) & packer.o.ready, packer.o.valid, within=3)
