"""The drain: which passes it walks, and what it does to its engines' banks."""

from __future__ import annotations

from unittest import mock

from amaranth import Array, Cat, Module, Mux, Signal

import hw.drain
from hw.drain import Drain
from hw.passes import HEADERS, Passes
from hw.walker import Walker
from sim.formal.checkers import Count, claim_held, implies
from sim.formal.harness import Bench, proof
from sim.formal.small import SMALL, positive_counts, steady

INSIDE = HEADERS + 2
"""Passes of an engine in its drain: in the queue, in the walk and behind it."""

GONE = 3
"""Cycles from a walk's last step until the flags of its bank are gone (drain.Drain/passes)."""


@proof("drain.Drain/claims", depth=3, reach=14, induction=True,
       scope="2 engines of 2 units, words of 8 positions; any sound layer")
def drain_claims(f: Bench):
    """The drain reads only units that it claimed in the cycle before, of one engine at a time,
    clears what it reads unless pools overlap, and its outputs insert masks only in a layer with
    neurons, at the end of a window. Its words wait unchanged until they are taken."""
    drain = Drain(SMALL, 2)
    inner = f.open("drain", drain)
    outputs = inner["outputs"]
    tag = outputs.tag
    positive_counts(f, drain.layer)
    f.assume(~drain.sweep)
    f.lemma("no_sweep", ~inner["sweeping"])
    claim_held(f, "o", drain.o, cover=False)
    for e, port in enumerate(drain.engines):
        f.claim(f"claimed{e}", (port.read & ~f.past(port.claim)) == 0)
        f.claim(f"clears{e}", implies(port.read.any() & ~drain.layer.pool_overlap, port.clear))
    f.claim("one_engine", ~Cat(port.read.any() for port in drain.engines).all())
    f.lemma("one_engine_claimed", Cat(
        ~port.claim.any() | (inner["engine0"] == e) for e, port in enumerate(drain.engines)).all())
    ends_window = f.past(tag.valid & tag.window_last)
    f.claim("inserts_at_the_end_of_windows", implies(
        f.started, outputs.o.inserts == (ends_window & ~drain.layer.readout)))
    f.claim("ends_with_a_phase", implies(f.started & outputs.o.sequence_end,
                                         f.past(tag.phase_end)))
    f.claim("finishes_with_a_pass", implies(f.started & outputs.o.finishes,
                                            f.past(tag.pass_end)))
    read = drain.engines[1].read
    f.cover("reads", read.any() & f.past(read).any())


class AnyWalker(Walker):
    """Stands for the walk: ends when it likes, a cycle after its start or later."""

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.last.eq(self.ends), self.position.eq(self.anywhere)]
        with m.If(self.start):
            m.d.sync += self.running.eq(1)
        with m.Elif(self.step & self.ends):
            m.d.sync += self.running.eq(0)
        return m


@proof("drain.Drain/passes", depth=12,
       scope="2 engines of 2 units, words of 8 positions; any layer, any walk")
def drain_passes(f: Bench):
    """The drain reads and releases only filled banks, releases each pass once, GONE cycles after
    its last step, and is idle only when no pass is left inside."""
    walker = AnyWalker(SMALL)
    walker.ends, walker.anywhere = f.free("ends"), f.free("anywhere", 10)
    with mock.patch.object(hw.drain, "Walker", lambda config: walker):
        drain = Drain(SMALL, 2)
        f.open("drain", drain)
    steady(f, drain.layer)
    f.assume((drain.layer.n_groups != 0) & ~drain.sweep)
    for e, port in enumerate(drain.engines):
        release = Mux(port.release, 1 << port.bank, 0)[:2]
        released = f.past(release)
        for u in range(SMALL.units):
            filled, before = port.filled[u], f.past(port.filled[u])
            # unit.AccumulateUnit/lanes: filled until released, and not again in the next cycle.
            f.assume(((before & ~released & ~filled) == 0) & ((released & filled) == 0))
            used = filled.bit_select(port.bank, 1)
            f.claim(f"engine{e}_unit{u}_filled", implies(port.read[u] | port.release, used))
        count = Count(f, f"pass{e}", push=port.headers.valid & port.headers.ready,
                      pop=port.release, capacity=INSIDE).count
        f.claim(f"idle_means_empty{e}", implies(drain.idle, count == 0))
        f.cover(f"second_release{e}", port.release & port.bank)
    f.claim("released_in_time", Cat(port.release for port in drain.engines).any()
            == f.past(walker.step & walker.last, GONE - 1))


@proof("passes.Passes/choice", depth=14,
       scope="2 engines of 2 units; any layer")
def passes_choice(f: Bench):
    """A walk starts, and stays, in a bank that all units of its engine have filled; two passes are
    live at most, and one of an engine where groups of timesteps follow each other; nothing of
    another engine comes between the passes of a row that hand something on; where both engines
    wait, the one that was not served last is."""
    passes = Passes(SMALL, 2)
    inner = f.open("passes", passes)
    layer = passes.layer
    steady(f, layer)
    walks, last = Signal(), f.past(passes.engine)
    with f.m.If(passes.start | passes.walked):
        f.m.d.sync += walks.eq(passes.start)
    f.assume(implies(passes.walked, walks))
    for e in range(2):
        for bank in range(2):
            flags = Cat(unit[bank] for unit in passes.filled[e])
            mine = (passes.engine == e) & (passes.bank == bank)
            gone = f.past(passes.walked & mine, GONE)
            f.assume(((f.past(flags) & ~flags & ~gone.replicate(len(flags))) == 0)
                     & ((gone.replicate(len(flags)) & flags) == 0))
            f.claim(f"filled{e}{bank}", implies((passes.start | walks) & mine, flags.all()))
    # The engines of the live passes, the older one first.
    count, older, newer = Signal(3), Signal(), Signal()
    f.assume(implies(passes.done, (count != 0) & ((count != 1) | ~walks)))
    f.m.d.sync += count.eq(count + passes.start - passes.done)
    with f.m.If(passes.done):
        f.m.d.sync += older.eq(newer)
    with f.m.If(passes.start):
        f.m.d.sync += newer.eq(passes.engine)
        with f.m.If(count == passes.done):
            f.m.d.sync += older.eq(passes.engine)
    f.claim("two_live", count <= 2)
    own = (count == 1) & (older == passes.engine)
    f.claim("one_of_an_engine", implies(passes.start & (layer.n_groups != 1), ~own))
    header = Array(live.header for live in passes.live)[passes.parity]
    open_row, owner = Signal(), Signal()
    with f.m.If(passes.start):
        f.m.d.sync += [owner.eq(passes.engine), open_row.eq(
            ~header.last & (layer.readout | ~layer.flush_strip))]
    f.claim("row_is_whole", implies(passes.start & open_row, passes.engine == owner))
    f.claim("in_turn", implies(passes.start & f.past(inner["may"].all()), passes.engine != last))
    f.cover("both_served", passes.start & (count == 1) & (older != passes.engine))
