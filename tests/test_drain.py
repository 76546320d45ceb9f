"""Drain, outputs and packer in cocotb: finished map words, on the walks of compiled networks."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hw import program
from hw.config import PRESETS, CoreConfig
from hw.drain import Drain
from hw.outputs import Outputs
from hw.packer import Packer
from hw.walker import Walker
from sim.runner import run_bench
from sim.samples.networks import random_network
from sim.units.drain import model as drain_model
from sim.units.layers import DEFAULT_LAYER
from sw.compile.compiler import DoesNotFit, compile_network
from sw.compile.listing import read_program

CONFIGS = {
    "one_lane": PRESETS["tiny"],
    "two_lanes": replace(PRESETS["a35tw"], engines=2, map_words=1024, gate=True),
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
            if sum(1 for _ in drain_model.walk(layer, False)) <= MOST_VISITS:
                found.setdefault(kind(layer, config), layer)
    return found


def scored(layer: dict, config: CoreConfig, rng: np.random.Generator) -> dict:
    """The layer, maybe with scores of its outputs, if they lie as those of one map."""
    strips, rows = layer["n_strips"], layer["count_oy"]
    flat = (strips - 1) * rows + layer["count_oy_last"]
    aligned = (strips == 1 or not layer["flush_strip"]
               or rows * layer["out_pitch"] == layer["strip_out_words"] * config.window)
    fits = (flat * layer["out_pitch"] <= config.gate_tokens and aligned
            and layer["count_px"] == layer["count_py"] == 1 and not layer["readout"])
    return layer | {"score": int(fits and rng.random() < 0.8),
                    "score_clear": int(rng.random() < 0.5)}


def overlapping_layers(config: CoreConfig, rng: np.random.Generator, count: int) -> list[dict]:
    """Layers with pools of 3x3 positions at stride 2, of maps of every size that fits."""
    layers = []
    while len(layers) < count:
        height, width = (int(n) for n in rng.integers(2, 17, 2))
        pitch = 1 << int(width - 1).bit_length()
        fit = (config.tile_positions - width) // pitch // 2
        aligned = max(1, config.window // pitch // 2)       # rows of a strip end with a word
        rows_out = (height + 1) // 2
        rows = min(fit, rows_out)
        if rows < rows_out:
            rows -= rows % aligned
        if rows < 1:
            continue
        strips = -(-rows_out // rows)
        rows_last = rows_out - (strips - 1) * rows
        rows_left = height - 2 * rows * (strips - 1)        # of the map, in the last strip
        columns_out = (width + 1) // 2
        counts = {"count_kx": 3, "count_ky": 3, "count_ox": columns_out, "count_oy": rows,
                  "count_px": 1, "count_py": 1}
        increments = {"inc_kx": 1, "inc_ky": pitch, "inc_ox": 2, "inc_oy": 2 * pitch,
                      "inc_px": 0, "inc_py": 0}
        positions = 2 * rows * pitch + width
        groups = int(rng.integers(1, 3))
        layers.append(DEFAULT_LAYER | program.walk_steps(counts, increments) | counts | {
            "count_oy_last": rows_last, "n_strips": strips, "n_groups": groups,
            "strip_words": -(-positions // config.window),
            "strip_words_last": -(-(rows_left * pitch + width) // config.window),
            "strip_step": 2 * rows * pitch // config.window, "positions": positions,
            "positions_last": rows_left * pitch + width, "pitch_mask": pitch - 1,
            "row_valid": width, "pool_max": 1, "pool_overlap": 1, "leak": int(rng.integers(257)),
            "flush_strip": int(groups > 1), "out_pitch": 1 << int(columns_out - 1).bit_length(),
            "strip_out_words": -(-rows * pitch // (2 * config.window)),
            "out_group_stride": 20, "out_base": int(rng.integers(99)), "out_channel_stride": 40})
    return layers


def listed_layers(config: CoreConfig, rng: np.random.Generator, count: int) -> list[dict]:
    """Layers that copy kept tokens; the first ones keep one, two and all of them."""
    layers = []
    for number in range(count):
        pitch = 1 << int(rng.integers(2, 5))
        width = int(rng.integers(pitch // 2 + 1, pitch + 1))
        height = min(8, config.gate_tokens // pitch)
        tokens = [n for n in range(height * pitch) if n % pitch < width]
        keep = (1, 2, len(tokens))[number] if number < 3 else int(rng.integers(1, len(tokens) + 1))
        positions = (height - 1) * pitch + width
        layers.append(DEFAULT_LAYER | {
            "listed": 1, "kept": sorted(rng.permutation(tokens)[:keep].tolist()),
            "count_ox": keep & 255, "strip_words": -(-positions // config.window),
            "strip_words_last": -(-positions // config.window), "positions": positions,
            "positions_last": positions, "pitch_mask": pitch - 1, "row_valid": width,
            "n_groups": int(rng.integers(1, 4)), "flush_strip": 1, "out_group_stride": 16,
            "out_pitch": 1 << int(keep - 1).bit_length(), "out_channel_stride": 48})
    return layers


def random_layers(name: str, seed: int, count: int, path: Path) -> str:
    """File with some of all these layers, in random order."""
    found, config, rng = layers_by_kind(name), CONFIGS[name], np.random.default_rng(seed)
    kinds = sorted(found)
    rng.shuffle(kinds)
    layers = [scored(found[key], config, rng) for key in kinds[:count]]
    layers = [layer | {"bit_planes": int(rng.random() < 0.4)}
              if not layer["pool_max"] and not layer["readout"] else layer for layer in layers]
    layers += [scored(layer, config, rng)
               for layer in overlapping_layers(config, rng, 1 + count // 5)]
    layers += listed_layers(config, rng, 3 + count // 8)
    rng.shuffle(layers)
    path.write_text(json.dumps(layers))
    return str(path)


def kind(layer: dict, config: CoreConfig) -> tuple:
    return (layer["readout"], layer["pool_max"], layer["pair"], layer["pair_merge"],
            layer["flush_strip"], layer["count_px"] > 1, min(layer["n_strips"], 3),
            min(layer["n_groups"], 3), layer["out_pitch"] // config.window, layer["count_ky"] > 1,
            layer["soft_reset"])


@pytest.mark.parametrize("name,engines", [("one_lane", 1), ("two_lanes", 2)])
def test_drain(name, engines, tmp_path):
    config = CONFIGS[name]
    run_bench(Drain(config, engines), "sim.units.drain.bench", config=config.as_dict(),
              engines=engines, seed=1, rows=2,
              layers=random_layers(name, 1, 20, tmp_path / "layers.json"))


def test_walker(tmp_path):
    run_bench(Walker(CONFIGS["two_lanes"]), "sim.units.drain.walker_bench", seed=1,
              layers=random_layers("two_lanes", 2, 30, tmp_path / "layers.json"))


@pytest.mark.parametrize("name", CONFIGS)
def test_outputs(name, tmp_path):
    config = CONFIGS[name]
    run_bench(Outputs(config), "sim.units.drain.outputs_bench", config=config.as_dict(), seed=1,
              layers=random_layers(name, 4, 30, tmp_path / "layers.json"))


@pytest.mark.parametrize("name", CONFIGS)
def test_packer(name, tmp_path):
    config = CONFIGS[name]
    run_bench(Packer(config), "sim.units.packer.bench", config=config.as_dict(), seed=1,
              layers=random_layers(name, 3, 30, tmp_path / "layers.json"))
