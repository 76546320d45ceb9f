"""Residual sums as bit-planes: the adder, the compiler's choice, whole networks, their readback."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hw.config import PRESETS
from hw.core import Core
from sim.runner import run_bench
from sim.samples.networks import random_input
from sim.samples.spikeformers import random_masks, random_spikeformer
from sw import bundled, ticket
from sw.compile.coding import decode_logits
from sw.compile.compiler import DoesNotFit, compile_network, run_passes
from sw.core import cycles, machine
from sw.integer import reference
from sw.integer.network import INPUT

from .test_core import check_case, write_cases

CONFIG = replace(PRESETS["tiny"], map_words=2048, weight_words=2048, planes=64)
CORES = {"tiny": CONFIG,
         # Three engines, so that the last copy's port B is nobody's; and wide words.
         "odd": replace(CONFIG, engines=3, drain_engines=2, lanes=2),
         "wide": replace(PRESETS["a35tf"], weight_words=4096, planes=64)}


def summed(image) -> int:
    """Layers of an image that add their spikes to a sum."""
    return sum(bool(layout.onto) for layout in image.maps.values())


def draw_cases(config, count: int, seed: int) -> list:
    """Random Spikeformers that the compiler gives sums as bit-planes."""
    rng, cases = np.random.default_rng(seed), []
    while len(cases) < count:
        network = random_spikeformer(rng, column=False, name=f"random{len(cases)}",
                                     max_side=int(rng.choice([4, 8, 12])), max_blocks=3,
                                     max_timesteps=int(rng.choice([4, 16])))
        try:
            image = compile_network(network, config)
        except DoesNotFit:
            continue
        if summed(image):
            cases.append((network, image))
    return cases


@pytest.mark.parametrize("name", CORES)
def test_random_spikeformers(name, tmp_path):
    config = CORES[name]
    cases = draw_cases(config, 12, 5)
    rng = np.random.default_rng(1005)
    inputs = [np.stack([random_input(rng, network) for _ in range(2)]) for network, _ in cases]
    masks = [random_masks(rng, network, 2) for network, _ in cases]
    folders = write_cases(tmp_path, cases, inputs, masks)
    run_bench(Core(config), "sim.units.core.bench", sim="verilator", cases=folders)
    before = 0
    for (network, image), *given, folder in zip(cases, inputs, masks, folders, strict=True):
        before = check_case(network, image, given[0], Path(folder), given[1], before)
        check_memory(image, *given, np.load(Path(folder) / "maps.npy"))


def check_memory(image, arrays, masks, dumps) -> None:
    """Every word of a sum that the software core leaves is in the core's memory, too."""
    for index, array in enumerate(arrays):
        memory = machine.run(image, array, mask=None if masks is None else masks[index]).memory
        for layout in image.maps.values():
            if layout.onto and layout.dies == len(image.layers) - 1:
                words = slice(layout.base, layout.base + layout.words)
                assert (dumps[index][words] == memory[words]).all(), (index, layout.name)
