"""Accumulate unit: a queue of synaptic jobs and the membranes' input currents they add up to."""

from __future__ import annotations

from amaranth import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from . import layouts
from .adders import FourAdders
from .config import QUEUE_MARGIN, TIMESTEPS_PER_GROUP, CoreConfig


def lowest_one(bits: Signal) -> Value:
    """The lowest bit that is set, alone; without the adder that `bits & -bits` would take."""
    return Cat(bits[i] & ~bits[:i].any() if i else bits[0] for i in range(len(bits)))


class JobQueue(wiring.Component):
    """First-in first-out queue in distributed RAM.

    Contract: never pushed when one place is left (the producer stops at `almost_full`, `margin`
    places early, which covers what is still in its pipeline). Throughput one push and one pop a
    cycle; a pushed job is visible in the next cycle.
    """

    def __init__(self, shape, depth: int, margin: int = QUEUE_MARGIN):
        self._shape, self._depth, self._margin = shape, depth, margin
        super().__init__({
            "push": In(1), "i": In(shape),
            "o": Out(stream.Signature(shape)),
            "almost_full": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = Memory(shape=self._shape, depth=self._depth, init=[])
        write, read = ram.write_port(), ram.read_port(domain="comb")
        # `o.ready` comes late in the cycle: whether a job is left is worked out for both cases.
        level = Signal(range(self._depth))
        valid, more = Signal(), Signal()
        pop = valid & self.o.ready
        m.d.comb += [
            level.eq(write.addr - read.addr), more.eq(level > 1),
            write.data.eq(self.i), write.en.eq(self.push),
            self.o.payload.eq(read.data), self.o.valid.eq(valid),
        ]
        m.d.sync += [
            valid.eq(self.push | more | (valid & ~pop)),
            self.almost_full.eq(level >= self._depth - self._margin),
        ]
        with m.If(self.push):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(pop):
            m.d.sync += read.addr.eq(read.addr + 1)
        return m


class AccumulateUnit(wiring.Component):
    """Adds weights to the currents of the output positions it owns, four timesteps at a time.

    One active lane a cycle, jobs without a gap between them. Two banks: while one accumulates, the
    other is drained. The accumulators are a single-port memory (half the area of two ports): a
    drain read takes the cycle from the accumulation, and may clear what it read.

    Members
    -------
    push, job: synaptic jobs in, or the end of a pass, see `layouts.job`; `almost_full` stops the
        fetch.
    filled: bit b is set when the unit has ended the pass in bank b.
    release: clears `filled[release_bank]` (the drain has read the last position).
    claim: the drain may read in the next cycle, so no update may be started in this one.
    drain, drain_bank, drain_address: read, and clear with `drain_clear`; `currents` is valid in
        the same cycle.
    update: an update is done in this cycle. waiting: ended a pass, other bank not yet drained.
    """

    def __init__(self, config: CoreConfig):
        self._config = config
        super().__init__({
            "push": In(1), "job": In(layouts.job(config)), "almost_full": Out(1),
            "filled": Out(2), "release": In(1), "release_bank": In(1),
            "claim": In(1), "drain": In(1), "drain_clear": In(1), "drain_bank": In(1),
            "drain_address": In(range(config.acc_depth)),
            "currents": Out(layouts.currents(config)),
            "update": Out(1), "waiting": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        cfg = self._config
        depth, subs = cfg.acc_depth, cfg.subs
        shape = layouts.job(cfg)

        m.submodules.queue = queue = JobQueue(shape, cfg.queue_depth)
        m.d.comb += [
            queue.push.eq(self.push), queue.i.eq(self.job),
            self.almost_full.eq(queue.almost_full),
        ]

        # Head job, consumed one lane at a time, lowest lane first.
        head, head_valid = Signal(shape, reset_less=True), Signal()
        ends = Signal(reset_less=True)
        left = Signal(subs, reset_less=True)
        bank, filled = Signal(), Signal(2)
        lane = Signal(range(subs))
        others = Signal(subs)
        add = Signal()
        m.d.comb += others.eq(left & ~lowest_one(left))
        for i in reversed(range(subs)):
            with m.If(left[i]):
                m.d.comb += lane.eq(i)
        is_end = head_valid & ends
        other_busy = filled.bit_select(~bank, 1)
        switch = is_end & ~other_busy
        take = head_valid & ~ends & ~self.claim
        finished = (take & ~others.any()) | switch | ~head_valid
        m.d.comb += [
            queue.o.ready.eq(finished),
            self.waiting.eq(is_end & other_busy),
            self.filled.eq(filled),
        ]
        with m.If(finished):
            m.d.sync += [
                head.eq(queue.o.payload), left.eq(queue.o.payload.active),
                head_valid.eq(queue.o.valid), ends.eq(~queue.o.payload.active.any()),
            ]
        with m.Elif(take):
            m.d.sync += left.eq(others)

        with m.If(self.release):
            m.d.sync += filled.bit_select(self.release_bank, 1).eq(0)
        with m.If(switch):
            m.d.sync += [bank.eq(~bank), filled.bit_select(bank, 1).eq(1)]

        # One weight register per timestep, zero where nothing is to be added: the zeroing is the
        # flip-flops' reset, and the adder needs no more than one lookup table a bit.
        add_place = Signal(range(2 * depth), reset_less=True)
        add_weights = [Signal.like(head.weight, name=f"add_weight{t}", reset_less=True)
                       for t in range(TIMESTEPS_PER_GROUP)]
        m.d.sync += [
            add.eq(take),
            add_place.eq(Cat((head.address + lane)[:(depth - 1).bit_length()], bank)),
        ]
        mask = Array(head.masks)[lane]
        for t, weight in enumerate(add_weights):
            with m.If(take & mask[t]):
                m.d.sync += weight.eq(head.weight)
            with m.Else():
                m.d.sync += weight.eq(0)

        # Read-modify-write in one cycle: asynchronous read, add, synchronous write.
        m.submodules.ram = ram = Memory(
            shape=layouts.currents(cfg).as_shape().width, depth=2 * depth, init=[])
        write, read = ram.write_port(), ram.read_port(domain="comb")
        place = Signal(range(2 * depth))
        clear = self.drain & self.drain_clear
        m.d.comb += [
            place.eq(Mux(self.drain, Cat(self.drain_address, self.drain_bank), add_place)),
            read.addr.eq(place), write.addr.eq(place), write.en.eq(add | clear),
            self.currents.as_value().eq(read.data),
            self.update.eq(add),
        ]
        # A claimed cycle adds nothing, so clearing means to hide the old value.
        m.submodules.adders = adders = FourAdders(cfg)
        m.d.comb += [
            adders.currents.eq(self.currents), adders.clear.eq(clear),
            adders.weights.as_value().eq(Cat(add_weights)),
            write.data.eq(adders.sums.as_value()),
        ]
        return m
