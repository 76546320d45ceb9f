"""`hw.unit.AccumulateUnit` and `hw.unit.JobQueue` against `model.accumulate`.

The bench plays the fetch (it stops at `almost_full` as late as the contract allows) and the drain
(claims, reads, releases). Settings: config, seed.
"""

from __future__ import annotations

from collections import deque

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from hw import layouts
from hw.config import CoreConfig
from sim.helpers import settings, start
from sim.streams import MODES, Codec, Stalls, seeded
from sim.units.unit import model

FETCH_DELAY = 4
"""Cycles from the decision to fetch a word to the push of its jobs."""

PASSES = 24


def random_jobs(rng: np.random.Generator, config: CoreConfig, count: int) -> list[dict]:
    subs, top = config.subs, 1 << config.acc_bits - 1
    jobs = []
    for _ in range(count):
        active = int(rng.integers(1, 1 << subs)) if rng.random() < 0.8 else (1 << subs) - 1
        weight = int(rng.choice([1, -1, 7, -8, 127, -128, rng.integers(-128, 128),
                                 rng.integers(-top, top), top - 1, -top]))
        masks = rng.integers(0, 16, subs)
        masks[rng.random(subs) < 0.2] = 15
        jobs.append({"masks": masks.tolist(), "active": active, "weight": weight,
                     "address": int(rng.integers(0, config.acc_depth))})
    return jobs


END = {"active": 0, "weight": 0, "address": 0}


class Bench:
    """One cycle at a time: `await cycle(...)` drives, settles, samples."""

    def __init__(self, dut, config: CoreConfig):
        self.dut, self.config = dut, config
        self.job = Codec(layouts.job(config))
        self.currents = Codec(layouts.currents(config))
        self.time = 0
        self.updates: list[int] = []        # cycles with an update
        self.claims: list[int] = []
        for name in ("push", "job", "release", "release_bank", "claim", "drain", "drain_clear",
                     "drain_bank", "drain_address"):
            getattr(dut, name).value = 0

    async def cycle(self, push: int | None = None, claim: bool = False, drain: bool = False,
                    clear: bool = True, bank: int = 0, address: int = 0,
                    release: bool = False) -> None:
        dut = self.dut
        await FallingEdge(dut.clk)
        dut.push.value = push is not None
        if push is not None:
            dut.job.value = push
        dut.claim.value, dut.drain.value, dut.drain_bank.value = claim, drain, bank
        dut.drain_address.value, dut.drain_clear.value = address, clear
        dut.release.value, dut.release_bank.value = release, bank
        await ReadOnly()
        self.time += 1
        if claim:
            self.claims.append(self.time)
        if dut.update.value == 1:
            self.updates.append(self.time)
            assert not drain, f"cycle {self.time}: an update in a cycle claimed by the drain"

    async def sweep(self) -> None:
        """As the drain does it before a layer."""
        for place in range(2 * self.config.acc_depth):
            bank, address = divmod(place, self.config.acc_depth)
            await self.cycle(drain=True, bank=bank, address=address)


class Feeder:
    """Pushes jobs like the fetch does; what is on its way still arrives after `almost_full`."""

    def __init__(self, bench: Bench, passes: list[list[dict]]):
        end = END | {"masks": [0] * bench.config.subs}
        self.bench = bench
        self.waiting = deque(bench.job.pack(job) for jobs in passes for job in [*jobs, end])
        self.pipeline: deque[int | None] = deque([None] * FETCH_DELAY)
        self.fullest = 0

    def next(self, stalled: bool) -> int | None:
        go = bool(self.waiting) and not stalled and self.bench.dut.almost_full.value == 0
        self.pipeline.append(self.waiting.popleft() if go else None)
        return self.pipeline.popleft()


class Reader:
    """Reads the banks in turn, like the drain: every read is claimed one cycle before. Some
    addresses are read without clearing before they are read to be cleared."""

    def __init__(self, bench: Bench, rng: np.random.Generator):
        self.bench, self.rng = bench, rng
        self.bank = 0
        self.plan: list[tuple[int, bool]] = []      # addresses to read, and whether to clear them
        self.claimed = False
        self.got: list[list[list[int]]] = []
        self.peeked: dict[int, list[list[int]]] = {}

    @property
    def active(self) -> bool:
        return bool(self.plan)

    def _begin(self) -> None:
        depth = self.bench.config.acc_depth
        self.plan = [(address, True) for address in range(depth)]
        for address in np.flatnonzero(self.rng.random(depth) < 0.3).tolist():
            before = self.plan.index((address, True))
            self.plan.insert(int(self.rng.integers(0, before + 1)), (address, False))
        self.got.append([])
        self.peeked = {}

    async def step(self, push: int | None, stalled: bool, gap: bool) -> None:
        bench = self.bench
        if not self.active and int(bench.dut.filled.value) >> self.bank & 1 and not gap:
            self._begin()
        drain = self.active and self.claimed and not stalled
        address, clear = self.plan[0] if self.active else (0, True)
        last = drain and len(self.plan) == 1
        # The claim for the next read goes with this one; a read that is held up stays claimed.
        claim = self.active and not last and (stalled or not gap)
        if self.active and self.claimed and stalled:
            claim = True
        await bench.cycle(push, claim=claim, drain=drain, clear=clear, bank=self.bank,
                          address=address, release=last)
        if drain:
            self.plan.pop(0)
            currents = bench.currents.unpack(int(bench.dut.currents.value))
            if clear:
                self.got[-1].append(currents)
                assert all(peek == currents for peek in self.peeked.get(address, []))
            else:
                self.peeked.setdefault(address, []).append(currents)
        self.claimed = claim
        if last:
            self.bank ^= 1


@cocotb.test()
@cocotb.parametrize(mode=MODES)
async def passes(dut, mode):
    """Currents of every pass equal the model's, whoever waits."""
    config = CoreConfig(**settings()["config"])
    rng = seeded(settings()["seed"], mode)
    await start(dut, 40_000)
    bench = Bench(dut, config)

    # Dirt from an aborted pass, whose reset only the sweep removes.
    for job in random_jobs(rng, config, 20):
        await bench.cycle(bench.job.pack(job))
    for _ in range(4):
        await bench.cycle()
    await FallingEdge(dut.clk)
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    await bench.sweep()
    bench.updates.clear()

    sizes = [0, 1, 2, 40, *rng.integers(0, 60, PASSES - 4)]
    work = [random_jobs(rng, config, int(size)) for size in sizes]
    feeder, reader = Feeder(bench, work), Reader(bench, rng)
    stalls = Stalls(mode, rng)
    full, waited = 0, 0
    while len(reader.got) < PASSES or reader.active:
        push = feeder.next(stalls.input())
        await reader.step(push, stalls.output(), gap=stalls.output() and bool(rng.random() < 0.5))
        full += int(dut.almost_full.value)
        if dut.waiting.value == 1:
            waited += 1
            assert dut.filled.value != 0, "waits for a bank although none is filled"
    for number, (jobs, got) in enumerate(zip(work, reader.got, strict=True)):
        assert got == model.accumulate(jobs, config), f"pass {number} of {mode}"
    lanes = sum(job["active"].bit_count() for jobs in work for job in jobs)
    assert len(bench.updates) == lanes, "an active lane is one update"
    if mode == "stalled_output":
        assert full and waited, "the queue never filled up: the bench does not stall enough"


@cocotb.test()
async def throughput(dut):
    """One update a cycle without a gap; an end takes one cycle; a claimed cycle takes one."""
    config = CoreConfig(**settings()["config"])
    rng = seeded(settings()["seed"], "throughput")
    await start(dut, 10_000)
    bench = Bench(dut, config)
    await bench.sweep()
    first, second = random_jobs(rng, config, 30), random_jobs(rng, config, 12)
    lanes = [sum(job["active"].bit_count() for job in jobs) for jobs in (first, second)]
    feeder = Feeder(bench, [first, second])
    while len(bench.updates) < sum(lanes):
        await bench.cycle(feeder.next(False))
    assert np.diff(bench.updates[:lanes[0]]).tolist() == [1] * (lanes[0] - 1)
    assert bench.updates[lanes[0]] - bench.updates[lanes[0] - 1] == 2, "switching banks"
    assert np.diff(bench.updates[lanes[0]:]).tolist() == [1] * (lanes[1] - 1)

    # Both banks are filled now: the third pass waits at its end until one is released.
    for _ in range(4):
        await bench.cycle()
    assert int(dut.filled.value) == 1, "the first pass is ready, the second one waits"
    await bench.cycle(release=True, bank=0)
    for _ in range(3):
        await bench.cycle()
    assert int(dut.filled.value) == 2

    # Claims (without reads) take exactly their cycle from the updates.
    bench.updates.clear()
    bench.claims.clear()
    jobs = random_jobs(rng, config, 30)
    total = sum(job["active"].bit_count() for job in jobs)
    feeder = Feeder(bench, [jobs])
    while len(bench.updates) < total:
        claim = bool(rng.random() < 0.4) and 0 < len(bench.updates) < total - 3
        await bench.cycle(feeder.next(False), claim=claim)
    claims = [t for t in bench.claims if bench.updates[0] <= t < bench.updates[-1]]
    span = bench.updates[-1] - bench.updates[0] + 1
    assert claims and span == total + len(claims), (span, total, len(claims))
    assert not {t + 1 for t in claims} & set(bench.updates), "an update in a claimed cycle"
