"""The accumulate unit behind its job queue, and the drain's side of its two banks."""

from __future__ import annotations

from unittest import mock

from amaranth import Cat, Module, Mux

import hw.unit
from hw.drain import Drain
from hw.unit import AccumulateUnit, JobQueue

from .checkers import Count, assume_held, implies
from .harness import Bench, proof
from .small import SMALL, positive_counts

DRAIN_HOLDS = 6
"""Passes in the drain: 4 in its queue, one in the walk and one behind it."""


class AnyQueue(JobQueue):
    """Stands for the job queue (unit.JobQueue/order): offers jobs when it likes."""

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.o.valid.eq(self.offers), self.o.payload.eq(self.offered)]
        return m


@proof("unit.AccumulateUnit/lanes", depth=4, reach=12, induction=True, quick=True,
       scope="2 units, words of 8 positions, 4 of them a unit's")
def unit_lanes(f: Bench):
    """Every active lane of every job is one update, none is lost or doubled; all updates of a pass
    are done when its bank is reported filled; every end marker fills one bank, and none that was
    not released since; no update falls into a cycle in which the drain reads, and what it reads
    is cleared if asked for, else kept."""
    unit = AccumulateUnit(SMALL)
    queue = AnyQueue(unit.job.shape(), SMALL.queue_depth)
    queue.offers, queue.offered = f.free("offers"), f.free("offered", unit.job.shape())
    with mock.patch.object(hw.unit, "JobQueue", lambda shape, depth: queue):
        inner = f.open("unit", unit)
    job, taken = queue.offered, queue.o.valid & queue.o.ready
    assume_held(f, queue.o)
    # Fetch: a job has work or ends the pass (fetch.Fetch/passes).
    f.assume(implies(queue.o.valid, job.active.any() != job.end))
    # Drain: reads what it claimed one cycle before, releases a filled bank (drain.Drain/...).
    release = Mux(unit.release, 1 << unit.release_bank, 0)[:2]
    f.assume(implies(unit.drain, f.past(unit.claim)))
    f.assume(implies(unit.release, (unit.filled & release).any()))
    f.assume(~unit.sweep)

    lanes = sum(job.active[i] for i in range(SMALL.subs))
    owed = Count(f, "lane", push=taken, amount=lanes, pop=unit.update,
                 capacity=SMALL.subs + 1).count
    before, released = f.past(unit.filled), f.past(release)
    fills = unit.filled & ~before
    ends = Count(f, "end", push=taken & job.end, pop=fills.any(), capacity=2).count
    f.claim("not_while_drained", ~(unit.update & unit.drain))
    write, read = inner["write"], inner["read"]
    drained = unit.drain & ~unit.update  # with an update, the claim above has failed
    f.claim("kept", implies(drained & ~unit.drain_clear, ~write.en))
    f.claim("cleared", implies(drained & unit.drain_clear,
                               write.en & (write.addr == read.addr) & (write.data == 0)))
    f.claim("filled_until_released", (before & ~released & ~unit.filled) == 0)
    f.claim("one_bank_at_a_time", fills != 3)
    f.claim("pass_is_complete", implies(fills.any(), f.past(owed) == f.past(unit.update)))
    f.cover("waits_for_a_bank", unit.waiting & f.past(unit.waiting))
    f.cover("two_lanes_of_a_job", unit.update & f.past(unit.update))
    # Invariants.
    valid, head, left = inner["head_valid"], inner["head"], inner["left"]
    waits = valid & ~head.end
    f.lemma("no_sweep", ~inner["sweeping"])
    f.lemma("lanes_left", owed == Mux(waits, sum(left[i] for i in range(SMALL.subs)), 0)
            + unit.update)
    f.lemma("a_lane_is_left", implies(waits, left.any()))
    f.lemma("ends_inside", ends == (valid & head.end) + fills.any())
    f.lemma("own_bank_is_free", ~unit.filled.bit_select(inner["bank"], 1))


@proof("drain.Drain/claims", depth=3, reach=14, induction=True,
       scope="2 units, words of 8 positions; any sound layer")
def drain_claims(f: Bench):
    """The drain reads only units that it claimed in the cycle before, clears what it reads unless
    pools overlap, and its outputs insert masks only in a layer with neurons, at the end of a
    window."""
    drain = Drain(SMALL)
    inner = f.open("drain", drain)
    outputs = inner["outputs"]
    tag = outputs.tag
    positive_counts(f, drain.layer)
    f.claim("claimed", (drain.read & ~f.past(drain.claim)) == 0)
    f.claim("clears", implies(drain.read.any() & ~drain.layer.pool_overlap, drain.clear))
    ends_window = f.past(tag.valid & tag.window_last)
    f.claim("inserts_at_the_end_of_windows", implies(
        f.started, outputs.o.inserts == (ends_window & ~drain.layer.readout)))
    f.claim("ends_with_a_phase", implies(f.started & outputs.o.sequence_end,
                                         f.past(tag.phase_end)))
    f.claim("finishes_with_a_pass", implies(f.started & outputs.o.finishes,
                                            f.past(tag.pass_end)))
    f.cover("reads", drain.read.any() & f.past(drain.read).any())


@proof("drain.Drain/passes", depth=14,
       scope="2 units, words of 8 positions; any sound layer")
def drain_passes(f: Bench):
    """The drain reads and releases only filled banks, releases each pass once, and is idle only
    when no pass is left inside."""
    drain = f.place("drain", Drain(SMALL))
    positive_counts(f, drain.layer)
    f.assume(drain.layer.n_groups != 0)
    release = Mux(drain.release, 1 << drain.bank, 0)[:2]
    released = f.past(release)
    for u in range(SMALL.units):
        filled, before = drain.filled[u], f.past(drain.filled[u])
        # unit.AccumulateUnit/lanes: filled until released, and not again in the next cycle.
        f.assume(((before & ~released & ~filled) == 0) & ((released & filled) == 0))
        used = filled.bit_select(drain.bank, 1)
        f.claim(f"unit{u}_filled", implies(drain.read[u] | drain.release, used))
    count = Count(f, "pass", push=drain.headers.valid & drain.headers.ready, pop=drain.release,
                  capacity=DRAIN_HOLDS).count
    f.claim("idle_means_empty", implies(drain.idle, count == 0))
    f.cover("second_release", drain.release & drain.bank)
    f.cover("both_units", Cat(drain.read).any() & f.past(drain.read).any())
