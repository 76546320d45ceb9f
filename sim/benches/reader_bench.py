"""`hw.decoder.BitReader` on a memory of random words: every bit at its place, 24 bits a cycle.

Settings: address_bits, seed.
"""

from __future__ import annotations

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from hw.decoder import FIELD_BITS
from sim.helpers import settings, start
from sim.streams import MODES, Stalls, seeded

SEEK_CYCLES = 4
"""Cycles between a seek and the first one that is ready."""


@cocotb.test()
@cocotb.parametrize(mode=MODES)
async def reads(dut, mode):
    address_bits = settings()["address_bits"]
    rng = seeded(settings()["seed"], mode)
    words = rng.integers(0, 1 << 32, 1 << address_bits).tolist()
    stream = sum(word << 32 * n for n, word in enumerate(words))
    for name in ("seek", "take", "count", "long", "long_count", "data", "seek_word",
                 "seek_bit"):
        getattr(dut, name).value = 0
    await start(dut, 20_000)
    stalls = Stalls(mode, rng)
    address = place = 0
    long_count = 0      # stays the same from one seek to the next

    async def cycle(seek: int | None = None, take: int = 0) -> None:
        nonlocal address, long_count
        await FallingEdge(dut.clk)
        dut.data.value = words[address]
        dut.seek.value, dut.take.value = seek is not None, take > 0
        long = take == long_count and bool(rng.integers(0, 2))
        dut.long.value, dut.long_count.value = long, long_count
        dut.count.value = int(rng.integers(1, FIELD_BITS + 1)) if long else take
        if seek is not None:
            long_count = int(rng.integers(1, FIELD_BITS + 1))
            dut.seek_word.value, dut.seek_bit.value = divmod(seek, 32)
        await ReadOnly()
        address = int(dut.address.value)

    for _ in range(25):
        place = int(rng.integers(0, 32 * len(words) - 2000))
        await cycle(seek=place)
        for _ in range(SEEK_CYCLES):
            await cycle()
            assert dut.ready.value == 0, "ready before the words can have arrived"
        for _ in range(int(rng.integers(1, 60))):
            take = 0
            if not (stalls.input() or stalls.output()):
                take = FIELD_BITS if mode == "full_speed" else int(rng.choice(
                    [long_count, rng.integers(1, FIELD_BITS + 1)]))
            await cycle(take=take)
            assert dut.ready.value == 1, "not ready: the stream did not keep up"
            assert int(dut.word.value) * 32 + int(dut.bit.value) == place
            want = stream >> place & (1 << FIELD_BITS) - 1
            assert int(dut.bits.value) == want, f"bits at {place}"
            place += take
