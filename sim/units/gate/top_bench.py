"""`hw.gate.TopK` against `model.top_k`; the bench plays the engines' scores.

Settings: engines, tokens, seed, cases.
"""

from __future__ import annotations

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from hw.config import SCORE_LATENCY, top_k_cycles
from hw.gate import SCORE_BITS, mask_word
from sim.helpers import settings, start
from sim.streams import seeded
from sim.units.gate import model


def cases(rng: np.random.Generator, most: int, count: int):
    """Scores and how many to keep: edges first."""
    for tokens in (1, 2, most // 2 + 1, most):
        scores = rng.integers(0, 1 << SCORE_BITS, tokens)
        yield scores, 1
        yield scores, tokens
        yield np.full(tokens, 77), max(1, tokens // 2)
        yield np.zeros(tokens, np.int64), max(1, tokens // 3)
        yield np.full(tokens, (1 << SCORE_BITS) - 1), max(1, tokens // 2)
    for _ in range(count):
        tokens = int(rng.integers(1, most + 1))
        top = int(rng.choice([1, 3, 20, 1 << SCORE_BITS]))
        yield rng.integers(0, top, tokens), int(rng.integers(1, tokens + 1))


async def run(dut, shares: np.ndarray, host: bool) -> tuple[int, list[int]]:
    """Cycles from start to done, and the list; shares: scores [engines][tokens]."""
    asked, kept = [0] * SCORE_LATENCY, []
    dut.start.value, dut.host.value = 1, host
    cycles = 0
    while True:
        token = asked.pop(0)
        dut.scores.value = sum(int(share[token]) << SCORE_BITS * n
                               for n, share in enumerate(shares) if token < len(share))
        await ReadOnly()
        asked.append(int(dut.token.value))
        done = dut.done.value == 1
        if dut.list_write.value == 1:
            assert int(dut.kept.value) == len(kept)
            kept.append(int(dut.list_token.value))
        assert dut.busy.value == (cycles > 0)
        await FallingEdge(dut.clk)
        dut.start.value = 0
        if done:
            assert dut.busy.value == 0 and int(dut.kept.value) == len(kept)
            return cycles, kept
        cycles += 1


async def read_mask(dut, tokens: int, word: int) -> list[int]:
    """The tokens that are set in the mask."""
    bits = 0
    for index in range(-(-tokens // word)):
        dut.mask_index.value = index
        await ReadOnly()
        bits |= int(dut.mask.value) << word * index
        await FallingEdge(dut.clk)
    return [token for token in range(bits.bit_length()) if bits >> token & 1]


@cocotb.test()
async def scores(dut):
    """Lists of random and of special scores, in exactly the cycles of the contract; then the same
    tokens, inverted, as a mask from the host."""
    engines, most = settings()["engines"], settings()["tokens"]
    rng = seeded(settings()["seed"])
    word = mask_word(most)
    for name in ("start", "host", "tokens", "keep", "bits", "scores", "pitch_mask", "row_valid",
                 "mask_index", "mask_write", "mask_data"):
        getattr(dut, name).value = 0
    await start(dut, 150_000)
    for totals, keep in cases(rng, most, settings()["cases"]):
        # Numbers beyond a row's tokens stand for none; whatever their scores are.
        pitch = 1 << int(rng.integers(0, most.bit_length()))
        row = int(rng.integers(pitch // 2 + 1, pitch + 1))
        exist = [n for n in range(len(totals)) if n % pitch < row]
        keep = min(keep, len(exist))
        dut.pitch_mask.value, dut.row_valid.value = pitch - 1, row
        tokens, bits = len(totals), max(1, int(totals.max()).bit_length())
        bits = int(rng.integers(bits, SCORE_BITS + 1)) if rng.random() < 0.3 else bits
        # How the engines share the work does not matter.
        split = rng.multinomial(1000, rng.dirichlet(np.ones(engines)))
        shares = totals[None] * split[:, None] // 1000
        shares[0] += totals - shares.sum(0)
        dut.tokens.value, dut.keep.value, dut.bits.value = tokens, keep, bits
        cycles, kept = await run(dut, shares, False)
        wanted = [exist[n] for n in model.top_k([int(totals[n]) for n in exist], keep)]
        assert kept == wanted == await read_mask(dut, tokens, word), (totals, keep, pitch, row)
        assert cycles == top_k_cycles(engines, tokens, bits, word), (tokens, bits)

        # Now the others, and some that are none.
        mask = [n for n in range(tokens) if n not in wanted]
        dut.mask_write.value = 1
        for index in range(-(-tokens // word)):
            dut.mask_index.value = index
            dut.mask_data.value = sum(1 << n % word for n in mask if n // word == index)
            await FallingEdge(dut.clk)
        dut.mask_write.value = 0
        cycles, kept = await run(dut, shares, True)
        assert kept == [n for n in mask if n in exist] == await read_mask(dut, tokens, word)
        assert cycles == top_k_cycles(engines, tokens, bits, word, host=True)
