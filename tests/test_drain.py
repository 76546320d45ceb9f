"""Drain and packer in cocotb: every finished map word, on the walks of compiled networks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hw.config import PRESETS, CoreConfig
from hw.drain import Drain, Walker
from sim import models
from sim.runner import run_bench
from sw.compile.listing import read_program
from sw.compiler import DoesNotFit, compile_network
from tests.random_networks import random_network

CONFIGS = {
    "one_lane": PRESETS["tiny"],
    "two_lanes": replace(PRESETS["a35t"], engines=2, map_words=1024),
}
MOST_VISITS = 150
"""Of a pass; longer walks add time, not cases."""


def random_layers(config: CoreConfig, seed: int, count: int) -> list[dict]:
    """Header fields of layers of compiled random networks, every kind of walk among them."""
    rng = np.random.default_rng(seed)
    found: dict[tuple, dict] = {}
    for _ in range(150):
        network = random_network(rng, max_size=14)
        try:
            image = compile_network(network, config)
        except DoesNotFit:
            continue
        for code in read_program(image.program, config):
            layer = code.header
            if sum(1 for _ in models.walk(layer, False)) <= MOST_VISITS:
                found.setdefault(kind(layer, config), layer)
    kinds = sorted(found)
    rng.shuffle(kinds)
    return [found[key] for key in kinds[:count]]


def kind(layer: dict, config: CoreConfig) -> tuple:
    return (layer["readout"], layer["pool_max"], layer["pair"], layer["pair_merge"],
            layer["flush_strip"], layer["count_px"] > 1, min(layer["n_strips"], 3),
            min(layer["n_groups"], 3), layer["out_pitch"] > config.window, layer["count_ky"] > 1,
            layer["soft_reset"])


def write(path: Path, layers: list[dict]) -> str:
    path.write_text(json.dumps(layers))
    return str(path)


@pytest.mark.parametrize("name", CONFIGS)
def test_drain(name, tmp_path):
    config = CONFIGS[name]
    layers = random_layers(config, 1, 20)
    run_bench(Drain(config), "sim.benches.drain_bench", config=config.as_dict(), seed=1, rows=2,
              layers=write(tmp_path / "layers.json", layers))


def test_walker(tmp_path):
    layers = random_layers(CONFIGS["two_lanes"], 2, 30)
    run_bench(Walker(), "sim.benches.walker_bench", seed=1,
              layers=write(tmp_path / "layers.json", layers))
