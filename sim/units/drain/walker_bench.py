"""`hw.walker.Walker` against `model.walk`: every position and flag, one step a cycle.

Settings: layers (a JSON file: a list of `hw.program.HEADER` fields, and `kept` where `listed`),
seed.
"""

from __future__ import annotations

import json
from pathlib import Path

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from sim.helpers import settings, start
from sim.streams import MODES, Stalls, seeded
from sim.units.drain import model
from sim.units.layers import layer_bits

FLAGS = ("first", "last", "window_first", "window_last", "row_end", "phase_end")


@cocotb.test()
@cocotb.parametrize(mode=MODES)
async def walks(dut, mode):
    rng = seeded(settings()["seed"], mode)
    for name in ("layer", "last_strip", "prepare", "start", "step", "list_token"):
        getattr(dut, name).value = 0
    await start(dut, 100_000)
    stalls = Stalls(mode, rng)
    for layer in json.loads(Path(settings()["layers"]).read_text()):
        for last_strip in (False, True)[layer["n_strips"] == 1:]:
            await walk(dut, layer, last_strip, stalls)


async def walk(dut, layer: dict, last_strip: bool, stalls: Stalls) -> None:
    async def cycle(**inputs: int) -> None:
        await FallingEdge(dut.clk)
        for name in ("prepare", "start", "step"):
            getattr(dut, name).value = inputs.get(name, 0)
        # The list's memory answers at once; behind its last place there is something, too.
        kept = layer.get("kept", [0])
        dut.list_token.value = kept[int(dut.list_index.value) % len(kept)]
        await ReadOnly()

    await FallingEdge(dut.clk)
    dut.layer.value, dut.last_strip.value = layer_bits(layer), last_strip
    await cycle(prepare=1)
    await cycle()
    while stalls.input():
        await cycle()
    await cycle(start=1)
    for visit in model.walk(layer, last_strip):
        stepped = False
        while not stepped:
            stepped = not (stalls.input() or stalls.output())
            await cycle(step=stepped)
            assert dut.running.value == 1
            # A position beyond the strip is one modulo 2^10; it never is an output. The one
            # before the first is shown as 0.
            position = 0 if visit.first and layer["pool_overlap"] else visit.position % 1024
            assert int(dut.position.value) == position, (layer, visit)
            got = {name: bool(getattr(dut, name).value) for name in FLAGS}
            assert got == {name: getattr(visit, name) for name in FLAGS}, (layer, visit)
            if layer["pool_overlap"]:
                assert bool(dut.clear.value) == visit.clears, visit
                assert bool(dut.at_edge.value) == visit.beyond, visit
    await cycle()
    assert dut.running.value == 0, "still running after the last step"
