# amaranth: UnusedElaboratable=no
"""Units for attention and the patch gate: models, contracts and benches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.attention import AttentionSource
from hw.cluster import EngineCluster
from hw.config import PRESETS
from hw.gate import Scores, TopK
from sim.runner import run_bench
from sim.units.attention import model as attention_model
from sim.units.gate import model as gate_model

TINY = PRESETS["tiny"]

SOURCES = {
    "one_timestep": (TINY, 1, 4),
    "two_timesteps": (replace(PRESETS["a35tw"], map_words=512), 2, 6),
    "four_timesteps": (TINY, 4, 8),
}
"""Configuration, timesteps at a time and layers per stall mode."""


@pytest.mark.parametrize("name", SOURCES)
def test_attention_source(name):
    config, parallel, layers = SOURCES[name]
    run_bench(AttentionSource(config, parallel), "sim.units.attention.bench",
              config=config.as_dict(), parallel=parallel, seed=1, layers=layers)


@pytest.mark.parametrize("config, layers", [
    (TINY, 4), (replace(TINY, units=16, acc_depth=4, lanes=2), 2)])
def test_engine(config, layers):
    run_bench(EngineCluster(config, 1), "sim.units.engine.bench", config=config.as_dict(), seed=1,
              layers=layers)


@pytest.mark.parametrize("preset, tokens", [("tiny", 16), ("a100tf", 64)])
def test_scores(preset, tokens):
    config = PRESETS[preset]
    run_bench(Scores(config, tokens), "sim.units.gate.scores_bench", config=config.as_dict(),
              tokens=tokens, seed=1)


@pytest.mark.parametrize("engines, tokens, cases", [(1, 16, 12), (3, 64, 6), (4, 256, 1)])
def test_top_k(engines, tokens, cases):
    run_bench(TopK(engines, tokens), "sim.units.gate.top_bench", engines=engines, tokens=tokens,
              cases=cases, seed=1)


@pytest.mark.parametrize("make, message", [
    (lambda: AttentionSource(TINY, 3), "parallel 3 is none of 1, 2, 4"),
    (lambda: Scores(TINY, 100), r"tokens 100 is not a power of two in 2\.\.256"),
    (lambda: Scores(TINY, 512), r"tokens 512 is not a power of two in 2\.\.256"),
    (lambda: TopK(4, 2), r"tokens 2 is not a power of two in 4\.\.256"),
    (lambda: TopK(0), "engines 0 is below 1"),
    (lambda: TopK(4, score_bits=17), r"score_bits 17 is outside 1\.\.16"),
])
def test_bad_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def masks(draw, channels: int, tokens: int) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    spikes = rng.random((channels, tokens, 4)) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    return spikes @ np.array([1, 2, 4, 8])


@st.composite
def heads(draw):
    width, count = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    tokens = draw(st.integers(1, 9))
    return width, [masks(draw, width * count, tokens) for _ in range(3)]


@given(heads())
@settings(max_examples=40, deadline=None)
def test_sums_first_is_attention(drawn):
    """q (k^T v), as the core has it, and (q k^T) v are the same integers."""
    width, (q, k, v) = drawn
    x = attention_model.attend(q, k, v, width)
    for t in range(4):
        qt, kt, vt = ((m >> t & 1).reshape(-1, width, m.shape[1]) for m in (q, k, v))
        scores = np.einsum("hin,him->hnm", qt, kt)
        wanted = np.einsum("hnm,hjm->hjn", scores, vt).reshape(q.shape)
        assert (x[..., t] == wanted).all()


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.data())
@settings(max_examples=60, deadline=None)
def test_bisection_finds_the_highest(scores, data):
    keep = data.draw(st.integers(1, len(scores)))
    kept = gate_model.top_k(scores, keep)
    assert gate_model.bisect(scores, keep, 3) == kept
    assert len(kept) == keep
    for token in kept:
        assert all((scores[other], -other) < (scores[token], -token)
                   for other in range(len(scores)) if other not in kept)


@given(st.lists(st.integers(0, 3), min_size=4, max_size=4), st.integers(0, 100))
def test_items_hold_every_timestep_once(sums, channel):
    items = attention_model.sums_to_items(sums, channel)
    assert len({item["value"] for item in items}) == len(items)
    for t, total in enumerate(sums):
        assert sum(item["value"] for item in items if item["timesteps"] >> t & 1) == total
