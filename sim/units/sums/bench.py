"""`hw.sums.SumWriter` in front of a memory: every sum, every cycle of its reads and writes.

Settings: config, seed.
"""

from __future__ import annotations

from collections import deque

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from hw import layouts
from hw.config import SUM_PLANES, CoreConfig
from sim.helpers import settings, start
from sim.streams import Codec, seeded
from sim.units.layers import DEFAULT_LAYER, layer_bits
from sim.units.sums.model import add_word, read_cycle, write_cycle

WORDS = 12
"""Of a layer."""

LOADS = {"rare": 0.15, "often": 0.6, "always": 1.0}
"""How often a word is there as soon as one may come."""


def random_word(rng: np.random.Generator, bits: int) -> int:
    """Dense or sparse, so that carries run through all planes and through none."""
    word = (1 << bits) - 1
    for _ in range(int(rng.integers(0, 3))):
        word &= int.from_bytes(rng.bytes(bits // 8), "little")
    return word


@cocotb.test()
@cocotb.parametrize(load=tuple(LOADS))
async def sums(dut, load):
    """Layers that add and layers that do not, one behind the other."""
    config = CoreConfig(**settings()["config"])
    rng = seeded(settings()["seed"], load)
    for name in ("layer", "chosen", "first", "word", "data"):
        getattr(dut, name).value = 0
    await start(dut, 60_000)
    memory = [random_word(rng, config.map_bits) for _ in range(config.map_words)]
    dut.chosen.value = 0
    for planes in (0, 2, 3, 0, *range(2, SUM_PLANES + 1), *rng.integers(2, 5, 12).tolist()):
        await one_layer(dut, config, rng, memory, planes, LOADS[load])


async def one_layer(dut, config: CoreConfig, rng: np.random.Generator, memory: list[int],
                    planes: int, load: float) -> None:
    """Words at different places of a sum of `planes` planes; 0: as they are."""
    codec = Codec(layouts.map_write(config))
    stride, new = config.map_words // 8, bool(rng.integers(0, 2))
    attention = planes == 0 and bool(rng.integers(0, 2))
    await FallingEdge(dut.clk)
    dut.layer.value = layer_bits(DEFAULT_LAYER | {
        "head_width": planes or 16 * attention, "attention": attention, "key": stride,
        "key_words": int(new)})
    dut.chosen.value = dut.first.value = 0
    for _ in range(2):
        await FallingEdge(dut.clk)
    places = deque(rng.permutation(stride)[:WORDS].tolist())
    reads: dict[int, int] = {}              # cycle -> address
    writes: dict[int, tuple[int, int]] = {}         # cycle -> address, word
    words: dict[int, int] = {}              # cycle in which a word is there -> it
    asked, time, free = None, 0, 0
    while places or time <= max(writes):
        await FallingEdge(dut.clk)
        time += 1
        dut.first.value = time in words
        dut.word.value = words.get(time, random_word(rng, codec.width & ~7))
        dut.data.value = memory[asked] if asked is not None else random_word(rng, config.map_bits)
        chosen = bool(places) and time >= free and rng.random() < load
        dut.chosen.value = chosen
        await ReadOnly()
        assert dut.adds.value == (planes > 0)
        assert bool(dut.hold.value) == (time < free), f"cycle {time}: hold"
        if chosen:
            place, word = places.popleft(), random_word(rng, config.map_bits)
            words[time + 2] = codec.pack({"address": place, "data": word})
            at = [place + plane * stride for plane in range(max(1, planes))]
            made = add_word([memory[n] for n in at], word, new) if planes else [word]
            reads |= {read_cycle(time, n): at[n] for n in range(planes)}
            writes |= {write_cycle(time, n) - 2 * (planes == 0): (at[n], made[n])
                       for n in range(max(1, planes))}
            free = time + max(1, planes)
        assert bool(dut.asks.value) == (time + 2 in reads), f"cycle {time}: asks"
        assert bool(dut.read.value) == (time in reads), f"cycle {time}: read"
        asked = reads.get(time)
        if asked is not None:
            assert int(dut.read_address.value) == asked, f"cycle {time}: read address"
        assert bool(dut.write.value) == (time in writes), f"cycle {time}: write"
        if time in writes:
            got = codec.unpack(int(dut.o.value))
            assert (got["address"], got["data"]) == writes[time], f"cycle {time}: what is written"
            memory[writes[time][0]] = writes[time][1]
        if planes and any(time - 1 <= cycle for cycle in words):
            last = max(writes)
            assert not dut.busy.value or time <= last
            assert dut.busy.value or not any(read <= time <= read + 2 for read in reads)
