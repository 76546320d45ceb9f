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


def silence(dut) -> None:
    for name in ("seek", "take", "count", "long", "long_count", "data", "seek_word", "seek_bit",
                 "hold"):
        getattr(dut, name).value = 0


@cocotb.test()
@cocotb.parametrize(mode=MODES)
async def reads(dut, mode):
    address_bits = settings()["address_bits"]
    rng = seeded(settings()["seed"], mode)
    words = rng.integers(0, 1 << 32, 1 << address_bits).tolist()
    stream = sum(word << 32 * n for n, word in enumerate(words))
    silence(dut)
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


@cocotb.test()
@cocotb.parametrize(chance=(0.1, 0.5, 0.95))
async def reads_what_comes_late(dut, chance):
    """Words that are not there, or not to be had in this cycle: none is skipped or read twice, and
    what was held comes as soon as after a seek."""
    address_bits = settings()["address_bits"]
    rng = seeded(settings()["seed"], f"late{chance}")
    words = rng.integers(0, 1 << 32, 1 << address_bits).tolist()
    stream = sum(word << 32 * n for n, word in enumerate(words))
    silence(dut)
    await start(dut, 60_000)
    answer = 0
    for _ in range(30):
        place = int(rng.integers(0, 32 * len(words) - 2000))
        end, free, begin = place + int(rng.integers(100, 1500)), 0, True
        while place < end:
            await FallingEdge(dut.clk)
            hold, ready = bool(rng.random() < chance), bool(dut.ready.value)
            take = int(rng.integers(0, FIELD_BITS + 1)) if ready and not begin else 0
            # The answer to a word that was not taken is another's.
            dut.data.value = answer
            dut.hold.value, dut.take.value, dut.count.value = hold, take > 0, take
            dut.seek.value = begin
            dut.seek_word.value, dut.seek_bit.value = divmod(place, 32)
            await ReadOnly()
            taken = not hold
            answer = words[int(dut.address.value)] if taken else int(rng.integers(0, 1 << 32))
            if ready and not begin:
                assert int(dut.word.value) * 32 + int(dut.bit.value) == place
                assert int(dut.bits.value) == stream >> place & (1 << FIELD_BITS) - 1, place
            # Counted from the seek, or from the last cycle that was held.
            free = 0 if hold or begin else free + 1
            assert ready or begin or free <= SEEK_CYCLES, "not ready, with nothing held"
            place += take
            begin = False
