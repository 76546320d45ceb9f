"""Weights from DRAM: blocks, streamer, and whole cores with all weights there."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.config import PRESETS, STREAM_BLOCK, STREAM_WORDS
from hw.registers import Space
from hw.stream import Streamer
from sim import fault_dram, regression
from sim.dram import CoreWithDram, verilog
from sim.runner import run_bench
from sim.samples.networks import random_input
from sw.board import jobs
from sw.compile import dram
from sw.compile.compiler import compile_network
from sw.compile.fit import DoesNotFit
from sw.integer.network import INPUT, InputSpec, Network
from sw.study.workloads import layer, random_weights
from tests.test_core import check_case, write_cases

CONFIG = PRESETS["tinyd"]
MEMORIES = {"any": CONFIG, "sdram": fault_dram.CONFIG, "ddr3": replace(CONFIG, ddr3=True)}
"""The same core with each kind of memory."""


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, (1 << 32) - 1), max_size=300), st.integers(0, 2))
def test_blocks(words, engine):
    """A block's number and content decide its check, and the last one is told apart."""
    words = np.array(words, np.uint32)
    stored = dram.blocks(words, engine, CONFIG)
    again = dram.stream_words(stored)
    assert (again[:len(words)] == words).all() and not again[len(words):].any()
    assert len(words) + dram.READ_AHEAD <= len(again) <= len(words) + STREAM_WORDS + 1
    for n, block in enumerate(stored.reshape(-1, STREAM_BLOCK)):
        number = engine * CONFIG.stream_stride // STREAM_BLOCK + n
        last = (n + 1) * STREAM_BLOCK == len(stored)
        check = zlib.crc32(block[:-1].astype("<u4").tobytes(), number) ^ (last * 0xFFFFFFFF)
        assert block[-1] == check


def test_streamer():
    run_bench(Streamer(CONFIG), "sim.units.stream.bench", config=CONFIG.as_dict(), seed=1)


@pytest.mark.parametrize("memory", [{}, {"sdram": True}, {"ddr3": True}])
def test_regression(memory, tmp_path):
    """Small networks with every kind of layer, some aborted in the middle: spikes and cycles."""
    config = replace(regression.STREAMED, **memory)
    cases = [regression.make_case(seed, config) for seed in regression.SEEDS[:4]]
    regression.write_cases(tmp_path, cases)
    regression.run_gateware(tmp_path, config)


def wide_network(rng: np.random.Generator, name: str) -> Network:
    """Few layers with many weights each: streams of many rings, rows of many passes."""
    channels, side = int(rng.integers(1, 4)), int(rng.choice([6, 8, 12]))
    timesteps, source, layers = int(rng.choice([1, 4, 7])), INPUT, []
    for n, bits in enumerate(rng.choice([1, 2, 4], 3).tolist()):
        out = int(rng.integers(20, 40))
        weight = random_weights(rng, (out, channels, 3, 3), float(rng.choice([.2, .5, .9])), bits)
        layers.append(layer(f"conv{n}", weight, source, pool=2 * (n == 1), bits=bits))
        channels, source = out, f"conv{n}"
    weight = random_weights(rng, (10, channels, side // 2, side // 2), .1, 1)
    layers.append(layer("readout", weight, source, neuron=False, bits=1))
    spec = InputSpec(layers[0].synapses[0].weight.shape[1], side, side)
    return Network(spec, timesteps, tuple(layers), name)


@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize("memory", MEMORIES)
def test_wide_networks(memory, everything, tmp_path):
    """Every weight from DRAM, or what does not fit: every spike, the cycles of every layer."""
    config = MEMORIES[memory]
    print("seed 4")
    rng = np.random.default_rng(4)
    cases = []
    while len(cases) < 6:
        network = wide_network(rng, f"wide{len(cases)}")
        try:
            image = compile_network(network, config, keep_all=True, stream=everything)
        except DoesNotFit:
            continue
        cases.append((network, image))
    layers = [one for _, image in cases for one in image.layers]
    assert everything or any(not one.streamed for one in layers), "something stays on chip"
    assert any(one.streamed and one.strips * one.groups > 1 for one in layers)
    assert max(len(words) for _, image in cases for words in image.streams) > 3 * CONFIG.ring_words
    inputs = [np.stack([random_input(rng, network) for _ in range(2)]) for network, _ in cases]
    folders = write_cases(tmp_path, cases, inputs)
    run_bench(CoreWithDram(config), "sim.units.core.bench", sim="verilator", cells=verilog(config),
              cases=folders)
    before = 0
    for (network, image), arrays, folder in zip(cases, inputs, folders, strict=True):
        before = check_case(network, image, arrays, Path(folder), before=before)


def test_what_is_loaded_comes_in_parts_that_a_digest_can_check():
    """For every host: the driver's, and what is exported for others."""
    image = SimpleNamespace(
        program=np.arange(5, dtype=np.uint32), weights=[], gate=None, config=CONFIG,
        streams=[np.arange(70_000, dtype=np.uint32), np.zeros(0, np.uint32)])
    parts = jobs.memories(image)
    assert [(space, address, len(words)) for space, address, words in parts] == [
        (Space.PROGRAM, 0, 5), (Space.DRAM, 0, 65_535), (Space.DRAM, 65_535, 4_465)]
    assert (np.concatenate([words for *_, words in parts[1:]]) == image.streams[0]).all()


def test_refusals():
    """Which memory, by how much, and what would help."""
    many = Network(InputSpec(40, 3, 3, bits=1), 1, (
        layer("many", np.ones((250, 40, 3, 3), np.int8), INPUT),
        layer("readout", np.ones((2, 250, 1, 1), np.int8), "many", neuron=False)), "many")
    with pytest.raises(DoesNotFit, match=r"DRAM of an engine short by \d+ words"):
        compile_network(many, replace(CONFIG, dram_words=1 << 12))
    with pytest.raises(DoesNotFit, match=r"weight memory 0 short .* streams weights from DRAM"):
        compile_network(many, replace(CONFIG, dram_words=0, ring_words=0))
    weight = np.ones((9, 2000, 1, 1), np.int8)
    rows = Network(InputSpec(2000, 1, 1, bits=1), 1, (
        layer("long", weight, INPUT, neuron=False, bits=4),), "long")
    with pytest.raises(DoesNotFit, match=r"layer 'long' .*ring_words 128"):
        compile_network(rows, replace(CONFIG, acc_bits=24), stream=True)
