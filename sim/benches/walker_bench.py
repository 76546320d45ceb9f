"""`hw.drain.Walker` against `sim.models.walk`: every position and flag, one step a cycle.

Settings: layers (a JSON file: a list of `hw.program.HEADER` fields), seed.
"""

from __future__ import annotations

import json
from pathlib import Path

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from sim import models
from sim.helpers import settings, start
from sim.streams import MODES, Stalls, seeded

FLAGS = ("first", "last", "window_first", "window_last", "row_end", "phase_end")


@cocotb.test()
@cocotb.parametrize(mode=MODES)
async def walks(dut, mode):
    rng = seeded(settings()["seed"], mode)
    for name in ("layer", "last_strip", "start", "step"):
        getattr(dut, name).value = 0
    await start(dut, 100_000)
    stalls = Stalls(mode, rng)
    for layer in json.loads(Path(settings()["layers"]).read_text()):
        for last_strip in (False, True)[layer["n_strips"] == 1:]:
            await FallingEdge(dut.clk)
            dut.layer.value, dut.last_strip.value = models.layer_bits(layer), last_strip
            dut.start.value, dut.step.value = 1, 0
            for visit in models.walk(layer, last_strip):
                stepped = False
                while not stepped:
                    await FallingEdge(dut.clk)
                    dut.start.value = 0
                    stepped = not (stalls.input() or stalls.output())
                    dut.step.value = stepped
                    await ReadOnly()
                    assert dut.running.value == 1
                    # A position beyond the strip is one modulo 2^10; it never is an output.
                    assert int(dut.position.value) == visit.position % 1024, (layer, visit)
                    got = {name: bool(getattr(dut, name).value) for name in FLAGS}
                    assert got == {name: getattr(visit, name) for name in FLAGS}, (layer, visit)
            await FallingEdge(dut.clk)
            dut.step.value = 0
            await ReadOnly()
            assert dut.running.value == 0, "still running after the last step"
