"""Helpers of the cocotb benches: clock, reset, watchdog, the core's host bus."""

from __future__ import annotations

import json
import os

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from hw.registers import COUNTER_WORDS, COUNTERS, Space
from sw.board.jobs import memories
from sw.compile.coding import encode_input, gate_input
from sw.compile.image import Image
from sw.core.dram_timing import until_rest

CLOCK_NS = 10


def settings() -> dict:
    """What `run_bench` was called with."""
    return json.loads(os.environ["BENCH_SETTINGS"])


async def start(dut, watchdog_cycles: int) -> None:
    """Clock, reset, and a watchdog that fails the test after so many cycles."""
    cocotb.start_soon(Clock(dut.clk, CLOCK_NS, unit="ns").start())
    dut.rst.value = 1
    await ClockCycles(dut.clk, 3)
    await FallingEdge(dut.clk)
    dut.rst.value = 0

    async def watch():
        await ClockCycles(dut.clk, watchdog_cycles)
        raise AssertionError(f"watchdog: not done after {watchdog_cycles} cycles")

    cocotb.start_soon(watch())


class CoreBus:
    """Drives the host side of `hw.core.Core`; every call ends at a falling edge."""

    def __init__(self, dut, config):
        self.dut, self.config = dut, config
        self.lanes = config.map_bits // 32
        for name in ("w_en", "r_en", "space", "addr", "w_data"):
            getattr(dut, f"bus__{name}").value = 0
        dut.start.value = dut.reset.value = 0

    async def write(self, space: int, address: int, words) -> None:
        dut = self.dut
        dut.bus__space.value, dut.bus__w_en.value = space, 1
        for offset, word in enumerate(words):
            dut.bus__addr.value = address + offset
            dut.bus__w_data.value = int(word)
            await FallingEdge(dut.clk)
            if space == Space.DRAM:
                dut.bus__w_en.value = 0
                await RisingEdge(dut.bus__w_done)
                await FallingEdge(dut.clk)
                dut.bus__w_en.value = 1
        dut.bus__w_en.value = 0

    async def read(self, space: int, address: int, count: int) -> list[int]:
        dut, words = self.dut, []
        dut.bus__space.value = space
        for index in range(count + 4):
            dut.bus__r_en.value = index < count
            dut.bus__addr.value = address + index
            await FallingEdge(dut.clk)
            if dut.bus__r_valid.value:
                words.append(int(dut.bus__r_data.value))
        dut.bus__r_en.value = 0
        assert len(words) == count, f"asked for {count} words, got {len(words)}"
        return words

    async def load(self, image: Image) -> None:
        """A network's program, weights and streams."""
        for space, address, words in memories(image):
            if space != Space.GATE:     # written with the input
                await self.write(space, address, words)
        # The memory comes to rest, as it does in the time that a request takes on any line.
        await ClockCycles(self.dut.clk, until_rest(self.config))
        await FallingEdge(self.dut.clk)

    async def write_map(self, address: int, data: bytes) -> None:
        """Map words from word `address`, as bytes, least significant first."""
        words = [int.from_bytes(data[i:i + 4], "little") for i in range(0, len(data), 4)]
        await self.write(Space.MAP, address * self.lanes, words)

    async def write_input(self, image: Image, array, mask=None) -> None:
        """One input, and where there is a gate with a mask, that."""
        array, words = gate_input(image, array, mask)
        for address, data in encode_input(image, array):
            await self.write_map(address, data.tobytes())
        if words is not None:
            await self.write(Space.GATE, 0, words)

    async def read_map(self, address: int, count: int) -> bytes:
        words = await self.read(Space.MAP, address * self.lanes, count * self.lanes)
        return b"".join(w.to_bytes(4, "little") for w in words)

    async def counters(self, layers: int) -> list[dict[str, int]]:
        values = await self.read(Space.COUNTER, 0, layers * COUNTER_WORDS)
        return [dict(zip(COUNTERS, values[i * COUNTER_WORDS:], strict=False))
                for i in range(layers)]

    async def run(self, first: int = 0, layers: int = 0) -> None:
        """Run and wait until done."""
        dut = self.dut
        dut.first_layer_address.value, dut.stop_after.value = first, layers
        dut.start.value = 1
        await FallingEdge(dut.clk)
        dut.start.value = 0
        await RisingEdge(dut.done)
        await FallingEdge(dut.busy)
        await FallingEdge(dut.clk)
