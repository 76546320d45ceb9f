"""`hw.core.WriteArbiter`: every word written once, one a cycle, nobody waits longer than a round.

Settings: config, seed.
"""

from __future__ import annotations

from collections import deque

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from hw import layouts
from hw.config import CoreConfig
from sim.helpers import settings, start
from sim.streams import Codec, seeded

WORDS = 60
"""Per engine."""

LOADS = {"one_engine": 0.0, "rare": 0.1, "often": 0.6, "always": 1.0}
"""How often an engine offers its next word as soon as it can."""


@cocotb.test()
@cocotb.parametrize(load=tuple(LOADS))
async def arbitration(dut, load):
    config = CoreConfig(**settings()["config"])
    rng = seeded(settings()["seed"], load)
    codec = Codec(layouts.map_write(config))
    dut.valid.value = dut.payload.value = 0
    if config.sums:         # `sums/bench` has the adder behind it
        dut.hold.value = dut.adds.value = dut.adder_writes.value = 0
    await start(dut, 20_000)
    engines = range(config.engines)
    if load == "one_engine":
        active = {int(rng.integers(0, config.engines))}
    else:
        active = set(engines)
    waiting = [deque(random_words(rng, config, WORDS)) if n in active else deque()
               for n in engines]
    total = sum(map(len, waiting))
    offered = [False] * config.engines
    age = [0] * config.engines
    expected: deque[tuple[int, int]] = deque()          # (cycle of the write, word)
    written, time, last_engine = 0, 0, None
    while written < total:
        await FallingEdge(dut.clk)
        time += 1
        for n in engines:
            if waiting[n] and not offered[n]:
                offered[n] = bool(load == "one_engine" or rng.random() < LOADS[load])
        dut.valid.value = sum(offered[n] << n for n in engines)
        dut.payload.value = sum((waiting[n][0] if offered[n] else 0) << n * codec.width
                                for n in engines)
        await ReadOnly()
        ready = int(dut.ready.value)
        assert ready.bit_count() == any(offered), "one word a cycle while any is waiting"
        announced = (expected and expected[0][0] == time + 1) or len(expected) > 1
        assert bool(dut.announce.value) == bool(announced), f"cycle {time}: announcement"
        assert int(dut.blocked.value) == int(bool(announced)) * ((1 << config.pairs) - 1), (
            f"cycle {time}: announcement to the pairs")
        if dut.write.value == 1:
            when, word = expected.popleft()
            assert when == time and int(dut.word.value) == word, f"cycle {time}: written word"
            written += 1
        else:
            assert not expected or expected[0][0] > time, f"cycle {time}: a word is lost"
        for n in engines:
            if ready >> n & 1:
                assert offered[n], "took a word that was not offered"
                if load == "always" and last_engine is not None and sum(offered) > 1:
                    assert n != last_engine, "one engine twice although others wait"
                last_engine = n
                expected.append((time + 2, waiting[n].popleft()))
                offered[n], age[n] = False, 0
            elif offered[n]:
                age[n] += 1
                assert age[n] < config.engines, f"engine {n} waits longer than a round"


def random_words(rng: np.random.Generator, config: CoreConfig, count: int) -> list[int]:
    bits = Codec(layouts.map_write(config)).width
    return [int.from_bytes(rng.bytes(-(-bits // 8)), "little") % (1 << bits)
            for _ in range(count)]
