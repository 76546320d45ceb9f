"""Drain, outputs and packer in cocotb: finished map words, on the walks of compiled networks."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hw.config import PRESETS, CoreConfig
from hw.drain import Drain, Walker
from hw.outputs import Outputs
from hw.packer import Packer
from sim import models
from sim.runner import run_bench
from sw.compile.listing import read_program
from sw.compiler import DoesNotFit, compile_network
from tests.random_networks import random_network

CONFIGS = {
    "one_lane": PRESETS["tiny"],
    "two_lanes": replace(PRESETS["a35t"], engines=2, map_words=1024),
}
NETWORKS = 100
"""Random networks to take layers from."""

MOST_VISITS = 150
"""Of a pass; longer walks add time, not cases."""


@cache
def layers_by_kind(name: str) -> dict[tuple, dict]:
    """Header fields of layers of compiled random networks, one of every kind of walk."""
    config, rng = CONFIGS[name], np.random.default_rng(1)
    found: dict[tuple, dict] = {}
    for number in range(NETWORKS):
        # Every third one has rows longer than a map word, or than two.
        wide = number % 3 == 0 and config.window * int(rng.integers(1, 3)) + int(rng.integers(1, 9))
        network = random_network(rng, max_size=3 if wide else 14, width=wide or None)
        try:
            image = compile_network(network, config)
        except DoesNotFit:
            continue
        for code in read_program(image.program, config):
            layer = code.header
            if sum(1 for _ in models.walk(layer, False)) <= MOST_VISITS:
                found.setdefault(kind(layer, config), layer)
    return found


def random_layers(name: str, seed: int, count: int, path: Path) -> str:
    """File with some of these layers, in random order."""
    found = layers_by_kind(name)
    kinds = sorted(found)
    np.random.default_rng(seed).shuffle(kinds)
    path.write_text(json.dumps([found[key] for key in kinds[:count]]))
    return str(path)


def kind(layer: dict, config: CoreConfig) -> tuple:
    return (layer["readout"], layer["pool_max"], layer["pair"], layer["pair_merge"],
            layer["flush_strip"], layer["count_px"] > 1, min(layer["n_strips"], 3),
            min(layer["n_groups"], 3), layer["out_pitch"] // config.window, layer["count_ky"] > 1,
            layer["soft_reset"])


@pytest.mark.parametrize("name", CONFIGS)
def test_drain(name, tmp_path):
    config = CONFIGS[name]
    run_bench(Drain(config), "sim.benches.drain_bench", config=config.as_dict(), seed=1, rows=2,
              layers=random_layers(name, 1, 20, tmp_path / "layers.json"))


def test_walker(tmp_path):
    run_bench(Walker(), "sim.benches.walker_bench", seed=1,
              layers=random_layers("two_lanes", 2, 30, tmp_path / "layers.json"))


@pytest.mark.parametrize("name", CONFIGS)
def test_outputs(name, tmp_path):
    config = CONFIGS[name]
    run_bench(Outputs(config), "sim.benches.outputs_bench", config=config.as_dict(), seed=1,
              layers=random_layers(name, 4, 30, tmp_path / "layers.json"))


@pytest.mark.parametrize("name", CONFIGS)
def test_packer(name, tmp_path):
    config = CONFIGS[name]
    run_bench(Packer(config), "sim.benches.packer_bench", config=config.as_dict(), seed=1,
              layers=random_layers(name, 3, 30, tmp_path / "layers.json"))
