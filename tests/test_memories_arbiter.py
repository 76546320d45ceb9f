"""Pair memory, write arbiter and the host bus in cocotb."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

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
