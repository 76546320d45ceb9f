"""`hw.gate.Scores`: spikes per token, with outputs in every cycle. Settings: config, tokens, seed.
"""

from __future__ import annotations

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from hw.config import SCORE_LATENCY, CoreConfig
from sim.helpers import settings, start
from sim.streams import MODES, Stalls, seeded

ROUNDS = 6


async def idle(dut, cycles: int) -> None:
    dut.valid.value = 0
    for _ in range(cycles):
        await FallingEdge(dut.clk)


async def read(dut, numbers: list[int]) -> list[int]:
    """Scores of these tokens, one a cycle."""
    scores = []
    for n in range(len(numbers) + SCORE_LATENCY):
        if n < len(numbers):
            dut.token.value = numbers[n]
        await ReadOnly()
        if n >= SCORE_LATENCY:
            scores.append(int(dut.score.value))
        await FallingEdge(dut.clk)
    return scores


@cocotb.test()
@cocotb.parametrize(mode=MODES)
async def maps(dut, mode):
    """Any number of maps over any number of tokens, then every score; clearing takes its time."""
    config, size = CoreConfig(**settings()["config"]), settings()["tokens"]
    lanes = config.lanes
    rng = seeded(settings()["seed"], mode)
    stalls = Stalls(mode, rng)
    for name in ("valid", "masks", "pair", "position", "clear", "token"):
        getattr(dut, name).value = 0
    await start(dut, 60_000)
    for number in range(ROUNDS):
        dut.clear.value = 1
        await FallingEdge(dut.clk)
        dut.clear.value = 0
        sweeps = 0
        while dut.busy.value == 1:
            sweeps += 1
            await idle(dut, 1)
        assert sweeps == size // lanes
        tokens = (1, 2, size)[number] if number < 3 else int(rng.integers(1, size + 1))
        scores = np.zeros(size, np.int64)
        density = 1.0 if number == 0 else rng.random()
        for _ in range(int(rng.integers(1, 9)) if number else 1 << 10):
            # A map that begins somewhere, as those of the second strip do.
            at = int(rng.integers(0, tokens)) // 2 * 2
            while at < tokens:
                pair = lanes == 2 and at % 2 == 0 and at + 1 < tokens and bool(rng.integers(2))
                masks = [int(rng.integers(16)) if rng.random() < density else 0 for _ in "12"]
                if number == 0:
                    masks = [15, 15]
                while stalls.input():
                    await idle(dut, 1)
                dut.valid.value, dut.pair.value = 1, pair
                dut.masks.value = sum(mask << 4 * n for n, mask in enumerate(masks[:lanes]))
                dut.position.value = at
                await FallingEdge(dut.clk)
                for n in range(2 if pair else 1):
                    scores[at + n] += masks[n].bit_count()
                at += 2 if pair else 1
        await idle(dut, 1)
        assert await read(dut, list(range(size))) == scores.tolist()
