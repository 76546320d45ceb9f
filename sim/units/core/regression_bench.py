"""The core on the cases of `sim.regression`: stops at the first difference.

Settings: cases (a folder of folders as `sim.regression.write_cases` leaves them).
"""

from __future__ import annotations

import json
from pathlib import Path

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, FallingEdge, First, RisingEdge, Timer

from hw.config import STREAM_BLOCK
from hw.registers import COUNTERS
from sim.helpers import CLOCK_NS, CoreBus, settings, start
from sim.regression import Mismatch
from sw.compile import image_file
from sw.compile.coding import decode_logits
from sw.compile.image import Image
from sw.core.dram_timing import awakening, longest

WATCHDOG = 1_000_000
TOLERANCE = 0.02
"""Largest relative difference between a network's cycles and the cycle model's ..."""
FEW = 4
"""... or so many cycles, for very short ones."""
ON_WAY = 2 * STREAM_BLOCK
"""Words of blocks from DRAM which an aborted run has asked for; they come before the next run's."""


@cocotb.test()
async def run_cases(dut):
    dut.first_layer_address.value = dut.stop_after.value = 0
    folders = sorted(Path(settings()["cases"]).iterdir())
    bus = CoreBus(dut, image_file.load(folders[0] / "image.npz").config)
    await start(dut, WATCHDOG)
    for number, folder in enumerate(folders):
        image = image_file.load(folder / "image.npz")
        facts = json.loads((folder / "expected.json").read_text())
        with np.load(folder / "expected.npz") as data:
            await run_case(dut, bus, image, dict(data), facts, aborted=number % 4 == 0)


async def abort(dut, cycles: int) -> None:
    """Start, and reset in the middle of it: nothing of that run may be left."""
    await FallingEdge(dut.clk)
    dut.start.value = 1
    await FallingEdge(dut.clk)
    dut.start.value = 0
    await ClockCycles(dut.clk, cycles)
    await FallingEdge(dut.clk)
    dut.reset.value = 1
    await FallingEdge(dut.clk)
    dut.reset.value = 0


async def run_case(dut, bus: CoreBus, image: Image, expected: dict, facts: dict,
                   aborted: bool) -> None:
    where = f"network {facts['seed']}"
    await bus.load(image)
    total = sum(facts["cycles"])
    array, mask = expected.pop("array"), expected.pop("mask", None)
    for again in range(1 + aborted):
        await bus.write_input(image, array, mask)
        if aborted and not again:
            await abort(dut, total * 2 // 3)
    limit = 2 * total + 2000
    done, late = RisingEdge(dut.done), Timer(limit * CLOCK_NS, "ns")
    await FallingEdge(dut.clk)
    dut.start.value = 1
    await FallingEdge(dut.clk)
    dut.start.value = 0
    if await First(done, late) is late:
        raise Mismatch(f"{where}: not done after {limit} cycles, the model needs {total}")
    await FallingEdge(dut.busy)
    await FallingEdge(dut.clk)

    memory = np.zeros((image.config.map_words, image.config.window // 2), np.uint8)
    layouts = {name: image.maps[name.removeprefix("map.")] for name in expected
               if name.startswith("map.")}
    spans = [(name, layout.base, layout.words) for name, layout in layouts.items()]
    for name, base, words in [*spans, ("logits", image.results, image.classes)]:
        data = np.frombuffer(await bus.read_map(base, words), np.uint8)
        memory[base:base + words] = data.reshape(words, -1)
        if name == "logits":
            got, want = decode_logits(image, memory), expected[name]
        else:       # whole words: what lies beside a map must be zero, others rely on it
            got, want = memory[base:base + words], expected["memory"][base:base + words]
        if (got != want).any():
            at = np.argwhere(got != want)[0].tolist()
            raise Mismatch(f"{where}: {name} of the core differs from the reference at {at}")
    counters = await bus.counters(len(image.layers))
    for index, (got, want) in enumerate(zip(counters, facts["counters"], strict=True)):
        for name, value in want.items():
            if got[name] != value:
                raise Mismatch(f"{where}, layer {index}: counter {name} is {got[name]}, "
                               f"the software core has {value}")
    took = sum(layer["cycles"] for layer in counters)
    early = late = 0
    if aborted and image.streams:       # the run begins while the memory is still at work
        early, late = awakening(image.config), longest(ON_WAY, image.config)
    if not -early - FEW - TOLERANCE * took <= took - total <= late + FEW + TOLERANCE * took:
        raise Mismatch(f"{where}: {took} cycles, the cycle model has {total}")
    assert set(counters[0]) == set(COUNTERS)
