"""Queues: order and capacity, and the margin for what is still in the pipeline before them."""

from __future__ import annotations

from unittest import mock

from amaranth import Cat, Const, Module, Value

import hw.drain
from hw.cluster import EngineCluster
from hw.config import DRAIN_MARGIN
from hw.drain import Drain
from hw.engine import Engine
from hw.fetch import Fetch
from hw.neuron import NeuronLane
from hw.passes import HEADERS, HeaderQueue
from hw.unit import JobQueue

from .checkers import Count, Order, claim_held, implies
from .harness import Bench, proof
from .small import SMALL

STOP = 4
"""Cycles after which nothing is pushed into a job queue any more once it is almost full. The two
proofs that use it must both hold: that the engine keeps it, and that the queue has room for it."""

DRAIN_STOP = DRAIN_MARGIN - 2
"""The same for the drain's queue: the queue itself takes two more cycles to say so."""

DEPTH = 16
MOST = DEPTH - 1
"""What the queue's contract lets it hold."""


@proof("unit.JobQueue/order", depth=3, reach=20, induction=True, quick=True,
       scope="16 jobs of 4 bits; the payload only passes through")
def job_queue_order(f: Bench):
    """Jobs come out once, unchanged and in order, a job is offered exactly while one is inside,
    and there are never more than `depth` less one, if none is pushed when so many are inside."""
    queue = JobQueue(4, DEPTH)
    inner = f.open("queue", queue)
    order = Order(f, "job", push=queue.push, item=queue.i,
                  pop=queue.o.valid & queue.o.ready, out=queue.o.payload, capacity=MOST)
    f.assume(implies(queue.push, order.count != MOST))
    f.claim("offered_while_inside", queue.o.valid == (order.count != 0))
    claim_held(f, "o", queue.o)
    # Invariants that make the induction close.
    f.lemma("level_counts", inner["level"] == order.count)
    place = inner["read"].addr
    f.lemma("addresses_follow", (inner["write"].addr - place - order.count)[:len(place)] == 0)
    spy = inner["ram"].read_port(domain="comb")
    f.m.d.comb += spy.addr.eq(place + order.ahead)
    f.lemma("marked_is_stored", implies(order.tracking, Value.cast(spy.data) == order.kept))


class AnyLane(NeuronLane):
    """Stands for the neuron lane: the same spikes for every position."""

    def elaborate(self, platform):
        return Module()


@proof("drain.Drain/stops", depth=DRAIN_STOP + 2, reach=DRAIN_STOP + 12, induction=True,
       scope="2 units, words of 8 positions; the state of everything else is arbitrary")
def drain_stops(f: Bench):
    """Nothing is pushed into the drain's queue more than DRAIN_STOP cycles after it is almost full;
    with its margin, which is larger, it never overflows."""
    with mock.patch.object(hw.drain, "NeuronLane", AnyLane):
        inner = f.open("drain", Drain(SMALL, 1))
    queue = inner["finished"]
    free = ~queue.almost_full
    f.claim("stops", implies(queue.push & f.past(Const(1), DRAIN_STOP), Cat(
        free, *(f.past(free, n + 1) for n in range(DRAIN_STOP))).any()))
    f.cover("pushes", queue.push)


@proof("unit.JobQueue/margin", depth=STOP + 4, reach=20, induction=True, quick=True,
       scope="16 jobs of 1 bit")
def job_queue_margin(f: Bench):
    """The queue never overflows if a job is pushed only up to STOP cycles after `almost_full`."""
    queue = JobQueue(1, DEPTH)
    inner = f.open("queue", queue)
    count = Count(f, "job", push=queue.push, pop=queue.o.valid & queue.o.ready,
                  capacity=MOST).count
    free = ~queue.almost_full
    f.assume(implies(queue.push, Cat(free, *(f.past(free, n) for n in range(1, STOP + 1))).any()))
    f.lemma("level_counts", (inner["level"] == count) & (queue.o.valid == (count != 0)))
    f.cover("pushed_although_almost_full", queue.almost_full & queue.push)


@proof("engine.Engine/stops", depth=STOP + 2, induction=True, quick=True,
       scope="2 units, words of 8 positions; the state of everything else is arbitrary")
def engine_stops(f: Bench):
    """Nothing is pushed into any unit's queue more than STOP cycles after one is almost full, and
    nothing is requested from the map memory while the port is announced to be taken."""
    engine = Engine(SMALL)
    inner = f.open("engine", engine)
    fetch, units = inner["fetch"], inner["units"]
    full = Cat(unit.almost_full for unit in units).any()
    f.claim("stops", implies(fetch.push.any(), ~f.past(full, STOP)))
    f.claim("port_respected", implies(fetch.issued, ~fetch.port_blocked))
    f.claim("push_reaches_units", Cat(unit.push for unit in units) == fetch.push)


@proof("fetch.Fetch/queues", depth=STOP + 2, reach=12, induction=True, quick=True,
       scope="2 units, words of 8 positions; the state of everything else is arbitrary")
def fetch_queues(f: Bench):
    """Nothing is pushed into the queues of word ranges and of visits more than STOP cycles after
    they are almost full; with unit.JobQueue/margin: they never overflow."""
    inner = f.open("fetch", Fetch(SMALL))
    begun = f.past(Const(1), STOP)
    for name in ("ranges", "visits"):
        queue = inner[name]
        free = ~queue.almost_full
        f.claim(f"{name}_stop", implies(
            queue.push & begun, Cat(free, *(f.past(free, n + 1) for n in range(STOP))).any()))
    f.cover("pushes", inner["ranges"].push)


@proof("passes.HeaderQueue/order", depth=3, reach=12, induction=True, quick=True,
       scope="headers as in the gateware")
def header_queue(f: Bench):
    """Pass headers come out of their queue once, unchanged and in order, one is offered exactly
    while one is inside, and it is never pushed when full."""
    queue = HeaderQueue()
    inner = f.open("queue", queue)
    read, write = inner["read"], inner["write"]
    order = Order(f, "header", push=queue.i.valid & queue.i.ready, item=queue.i.payload,
                  pop=queue.o.valid & queue.o.ready, out=queue.o.payload, capacity=HEADERS)
    f.claim("offered_while_inside", queue.o.valid == (order.count != 0))
    claim_held(f, "o", queue.o)
    f.lemma("level_counts", inner["level"] == order.count)
    f.lemma("addresses_follow", (write.addr - read.addr - order.count)[:2] == 0)
    spy = inner["ram"].read_port(domain="comb")
    f.m.d.comb += spy.addr.eq(read.addr + order.ahead)
    f.lemma("marked_is_stored", implies(order.tracking, Value.cast(spy.data) == order.kept))


@proof("cluster.EngineCluster/words", depth=3, induction=True,
       scope="2 engines of 2 units, words of 8 positions; the state of everything is arbitrary")
def cluster_words(f: Bench):
    """A finished word waits unchanged until the arbiter takes it, and a cluster is done only when
    its decoders and its drain hold nothing."""
    cluster = EngineCluster(SMALL, 2)
    inner = f.open("cluster", cluster)
    claim_held(f, "o", cluster.o, cover=False)
    f.claim("done_means_idle", implies(cluster.done, Cat(
        inner["drain"].idle, *(engine.idle for engine in inner["engines"])).all()))
