"""`hw.memories.PairMemory` against an array: both ports read every cycle, port A also writes.

Settings: width, depth, seed.
"""

from __future__ import annotations

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from sim.helpers import settings, start
from sim.streams import seeded

CYCLES = 1500


@cocotb.test()
async def reads_and_writes(dut):
    width, depth = settings()["width"], settings()["depth"]
    rng = seeded(settings()["seed"])
    for name in ("a_address", "b_address", "write", "write_data"):
        getattr(dut, name).value = 0
    await start(dut, 2 * CYCLES)
    memory = [0] * depth
    want = None
    for _ in range(CYCLES):
        await FallingEdge(dut.clk)
        a, b = (int(n) for n in rng.integers(0, depth, 2))
        if rng.random() < 0.3:
            b = a
        write = bool(rng.random() < 0.5)
        data = int.from_bytes(rng.bytes(-(-width // 8)), "little") % (1 << width)
        dut.a_address.value, dut.b_address.value = a, b
        dut.write.value, dut.write_data.value = write, data
        await ReadOnly()
        if want is not None:
            assert (int(dut.a_data.value), int(dut.b_data.value)) == want
        # Both ports read what was there before a write at the same edge.
        want = memory[a], memory[b]
        if write:
            memory[a] = data
