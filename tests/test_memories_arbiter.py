"""Pair memory, write arbiter and the host bus in cocotb."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from amaranth_boards.arty_a7 import ArtyA7_35Platform
from amaranth_boards.ulx3s import ULX3S_85F_Platform

from hw import memories
from hw.config import PRESETS
from hw.core import Core, WriteArbiter
from hw.memories import PairMemory
from sim.runner import run_bench
from sim.samples.networks import random_input, random_network
from sw.compile import image_file
from sw.compile.compiler import compile_network

CONFIG = PRESETS["tiny"]


@pytest.mark.parametrize(("width", "depth"), [(32, 16), (128, 64)])
def test_pair_memory(width, depth):
    run_bench(PairMemory(width, depth), "sim.units.core.memory_bench", width=width, depth=depth,
              seed=1)


def test_pair_memory_in_parts(monkeypatch):
    monkeypatch.setattr(memories, "part_bits", lambda platform, width, depth: 5)
    run_bench(PairMemory(32, 64), "sim.units.core.memory_bench", width=32, depth=64, seed=1)


@pytest.mark.parametrize(("depth", "bits"), [(2048, 128), (4096, 4), (8192, 2), (16384, 128)])
def test_parts_are_as_wide_as_a_block_ram_of_their_depth(depth, bits):
    assert memories.part_bits(ULX3S_85F_Platform(), 128, depth) == bits
    assert memories.part_bits(ArtyA7_35Platform(), 128, depth) == 128
    assert memories.part_bits(None, 128, depth) == 128


@pytest.mark.parametrize("engines", [1, 2, 3, 6])
def test_write_arbiter(engines):
    config = replace(CONFIG, engines=engines)
    run_bench(WriteArbiter(config), "sim.units.core.arbiter_bench", config=config.as_dict(), seed=1)


@pytest.mark.parametrize("config", [
    CONFIG, replace(CONFIG, engines=5, drain_engines=2, weight_words=3072)],
    ids=["tiny", "a memory less than a power of two deep"])
def test_host_bus(config, tmp_path):
    rng = np.random.default_rng(4)
    while True:
        network = random_network(rng, max_size=6, max_channels=4, max_layers=3, max_timesteps=4)
        if len(network.layers) == 3:
            break
    image_file.save(compile_network(network, config, keep_all=True), tmp_path / "image.npz")
    np.save(tmp_path / "inputs.npy", random_input(rng, network))
    run_bench(Core(config), "sim.units.core.host_bus_bench", seed=1,
              image=str(tmp_path / "image.npz"), inputs=str(tmp_path / "inputs.npy"))
