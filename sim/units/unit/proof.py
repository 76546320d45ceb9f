"""The accumulate unit behind its job queue."""

from __future__ import annotations

from unittest import mock

from amaranth import Module, Mux

import hw.unit
from hw.unit import AccumulateUnit, JobQueue
from sim.formal.checkers import Count, assume_held, implies
from sim.formal.harness import Bench, proof
from sim.formal.small import SMALL


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
    # Drain: reads what it claimed one cycle before, releases a filled bank (drain.Drain/...).
    release = Mux(unit.release, 1 << unit.release_bank, 0)[:2]
    f.assume(implies(unit.drain, f.past(unit.claim)))
    f.assume(implies(unit.release, (unit.filled & release).any()))

    lanes = sum(job.active[i] for i in range(SMALL.subs))
    owed = Count(f, "lane", push=taken, amount=lanes, pop=unit.update,
                 capacity=SMALL.subs + 1).count
    before, released = f.past(unit.filled), f.past(release)
    fills = unit.filled & ~before
    ends = Count(f, "end", push=taken & ~job.active.any(), pop=fills.any(), capacity=2).count
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
    valid, ends_pass, left = inner["head_valid"], inner["ends"], inner["left"]
    waits = valid & ~ends_pass
    f.lemma("lanes_left", owed == Mux(waits, sum(left[i] for i in range(SMALL.subs)), 0)
            + unit.update)
    f.lemma("a_lane_is_left", implies(waits, left.any()))
    f.lemma("ends_inside", ends == (valid & ends_pass) + fills.any())
    f.lemma("own_bank_is_free", ~unit.filled.bit_select(inner["bank"], 1))
