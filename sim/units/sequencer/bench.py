"""`hw.sequencer.Sequencer` on random programs: every field of every layer, and the load's cycles.

Settings: config, seed, programs (how many).
"""

from __future__ import annotations

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from hw import program
from hw.config import CoreConfig
from sim.helpers import settings, start
from sim.streams import seeded
from sim.units.layers import DEFAULT_LAYER, layer_bits, stream_masks

CLEAR_DELAY = 3
"""Cycles from begin to the first one in which scores are cleared."""


def random_fields(rng: np.random.Generator, fields: program.Fields) -> int:
    return sum(int(rng.integers(0, 1 << width)) << sum(w for _, w in fields[:n])
               for n, (_, width) in enumerate(fields))


def random_program(rng: np.random.Generator, config: CoreConfig,
                   layers: int) -> tuple[list[int], list[dict]]:
    """Words, and what each layer must look like to the engines."""
    words, scenes = [], []
    for n in range(layers):
        header = DEFAULT_LAYER | {
            "n_taps": int(rng.integers(1, config.taps + 1)),
            "n_planes": int(rng.integers(1, config.planes + 1)),
            "threshold": 0, "last_layer": int(n == layers - 1),
            "score_clear": int(rng.integers(0, 2)), "rice_k": int(rng.integers(0, 13)),
            "channel_bits": int(rng.integers(0, 13)), "neuron_bits": int(rng.integers(1, 25)),
            "v_reset": int(rng.integers(-(1 << 23), 1 << 23)), "out_base": int(rng.integers(0, 99))}
        if n == 0:
            header |= {"n_taps": 1, "n_planes": 1}          # loads quicker than the sweep
        packed = program.pack_words(program.HEADER, header)
        engines = [random_fields(rng, program.ENGINE) for _ in range(config.engines)]
        planes = [random_fields(rng, program.PLANE) for _ in range(header["n_planes"])]
        taps = [[random_fields(rng, fields) for fields in program.TAP]
                for _ in range(header["n_taps"])]
        block = [*packed, *engines, *planes, *(word for tap in taps for word in tap)]
        scenes.append({"layer": layer_bits(header), "clear": header["score_clear"],
                       "masks": stream_masks(header),
                       "busy": int(rng.integers(1, 3 * config.acc_depth)),
                       "engines": engines, "planes": planes,
                       "taps": [sum(w << 32 * i for i, w in enumerate(tap)) for tap in taps],
                       "words": len(block), "address": len(words)})
        words += block
    return words, scenes


@cocotb.test()
async def programs(dut):
    config = CoreConfig(**settings()["config"])
    rng = seeded(settings()["seed"])
    for name in ("start", "first_address", "stop_after", "data", "engines_done", "logged",
                 "scores_busy"):
        getattr(dut, name).value = 0
    await start(dut, 60_000)
    for _ in range(settings()["programs"]):
        words, scenes = random_program(rng, config, int(rng.integers(1, 4)))
        memory = [*words, *rng.integers(0, 1 << 32, config.program_words - len(words)).tolist()]
        await run_program(dut, config, rng, memory, scenes, 0, 0)
        for n, scene in enumerate(scenes):
            await run_program(dut, config, rng, memory, scenes[n:n + 1], scene["address"], 1)


async def run_program(dut, config, rng, memory, scenes, first: int, stop_after: int) -> None:
    address = 0

    async def cycle(**inputs: int) -> None:
        nonlocal address
        await FallingEdge(dut.clk)
        dut.data.value = memory[address]
        for name in ("start", "engines_done", "logged", "scores_busy"):
            getattr(dut, name).value = inputs.get(name, 0)
        dut.first_address.value, dut.stop_after.value = first, stop_after
        await ReadOnly()
        address = int(dut.address.value)

    await cycle(start=1)
    assert dut.busy.value == 0
    for index, scene in enumerate(scenes):
        planes, taps, cycles, begun, cleared = {}, {}, 0, 0, None
        while dut.run.value == 0:
            # Scores are busy from the cycle after the one that clears them.
            busy = cleared is not None and cycles - cleared < scene["busy"]
            await cycle(scores_busy=busy)
            assert dut.busy.value == 1 and dut.log.value == 0 and dut.done.value == 0
            cycles += 1
            if dut.begin.value == 1:
                begun += 1
                cycles = 0
            if dut.clear_scores.value == 1:
                assert cleared is None
                cleared = cycles
            if dut.plane_write.value == 1:
                planes[int(dut.plane_index.value)] = int(dut.plane.value)
            if dut.tap_write.value == 1:
                taps[int(dut.tap_index.value)] = int(dut.tap.value)
        assert begun == 1 and int(dut.index.value) == index
        plane_bits, tap_bits = (1 << len(dut.plane)) - 1, (1 << len(dut.tap)) - 1
        assert planes == {n: word & plane_bits for n, word in enumerate(scene["planes"])}
        assert taps == {n: word & tap_bits for n, word in enumerate(scene["taps"])}
        layer_bits = (1 << len(dut.layer)) - 1
        assert int(dut.layer.value) == scene["layer"] & layer_bits
        assert int(dut.masks.value) == scene["masks"]
        width = len(dut.rows) // config.engines
        for n, word in enumerate(scene["engines"]):
            rows = int(dut.rows.value) >> n * width & (1 << width) - 1
            assert rows == word & (1 << width) - 1, f"engine {n}"
        assert cleared == (CLEAR_DELAY if scene["clear"] else None)
        clearing = CLEAR_DELAY + scene["busy"] if scene["clear"] else 0
        assert cycles == 1 + max(scene["words"], 2 * config.acc_depth, clearing)
        for _ in range(int(rng.integers(0, 6))):
            await cycle()
            assert dut.run.value == 0 and dut.log.value == 0, "the engines are not done"
        await cycle(engines_done=1)
        for wait in reversed(range(int(rng.integers(1, 5)))):
            await cycle(logged=int(wait == 0))
            assert dut.log.value == 1
            assert bool(dut.done.value) == (wait == 0 and index == len(scenes) - 1)
    await cycle()
    assert dut.busy.value == 0
    assert int(dut.next_address.value) == scenes[-1]["address"] + scenes[-1]["words"]
