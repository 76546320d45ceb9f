"""The whole core: loads compiled images over the host bus, runs inputs, saves what came out.

Settings: cases, a list of folders each with `image.npz` (a compiled network), `inputs.npy` and, for
a gate that takes them from the host, `masks.npy`.
Leaves `maps.npy` (the whole map memory after every input) and `counters.json` in each folder;
`tests/test_core.py` compares them with the integer reference and the cycle model.
"""

from __future__ import annotations

import json
from pathlib import Path

import cocotb
import numpy as np

from sim.helpers import CoreBus, settings, start
from sw.compile import image_file

WATCHDOG = 3_000_000


@cocotb.test()
async def run_cases(dut):
    await start(dut, WATCHDOG)
    for folder in map(Path, settings()["cases"]):
        image = image_file.load(folder / "image.npz")
        bus = CoreBus(dut, image.config)
        await bus.load(image)
        dumps, counters = [], []
        inputs, masks = np.load(folder / "inputs.npy"), folder / "masks.npy"
        masks = np.load(masks) if masks.exists() else [None] * len(inputs)
        for array, mask in zip(inputs, masks, strict=True):
            await bus.write_input(image, array, mask)
            await bus.run()
            memory = await bus.read_map(0, image.config.map_words)
            dumps.append(np.frombuffer(memory, np.uint8).reshape(image.config.map_words, -1))
            counters.append(await bus.counters(len(image.layers)))
        np.save(folder / "maps.npy", np.stack(dumps))
        (folder / "counters.json").write_text(json.dumps(counters))
