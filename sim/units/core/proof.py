"""The write arbiter of the core."""

from __future__ import annotations

from amaranth import Cat, Mux, Value

from hw.core import WriteArbiter
from sim.formal.checkers import claim_served, implies
from sim.formal.harness import Bench, proof
from sim.formal.small import SMALL


@proof("core.WriteArbiter/service", depth=8, induction=True, quick=True,
       scope="3 engines, words of 36 bits; the payload only passes through")
def arbiter(f: Bench):
    """At most one engine is served a cycle, and one is while any waits. Its word is announced in
    the next cycle and written in the one after, unchanged; nothing else is ever written. Nobody
    waits longer than a round."""
    engines = SMALL.engines
    dut = WriteArbiter(SMALL)
    inner = f.open("arbiter", dut)
    f.lemma("last_is_an_engine", inner["last"] < engines)
    taken = dut.valid & dut.ready
    f.claim("one_at_a_time", (dut.ready & (dut.ready - 1)[:engines]) == 0)
    f.claim("serves_who_waits", implies(dut.ready, taken.any()))
    f.claim("never_idle", taken.any() == dut.valid.any())
    f.claim("announced", dut.announce == f.past(taken.any()))
    f.claim("written_once", dut.write == f.past(taken.any(), 2))
    chosen = 0
    for n in range(engines):
        chosen = Mux(taken[n], Value.cast(dut.payload[n]), chosen)
    f.claim("word_unchanged", implies(dut.write, Value.cast(dut.word) == f.past(chosen, 2)))
    # An engine keeps its word until it is served (packer.Packer/stream).
    for n in range(engines):
        waited = f.past(dut.valid[n] & ~dut.ready[n])
        f.assume(implies(waited, dut.valid[n]))
        claim_served(f, f"engine{n}", dut.valid[n], dut.ready[n], within=engines)
    f.cover("all_wait", dut.valid.all() & f.past(dut.valid.all()))
    f.cover("writes_in_a_row", Cat(dut.write, f.past(dut.write)).all())
