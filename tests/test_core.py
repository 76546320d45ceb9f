"""The core in cocotb against the integer reference: every spike, and the cycle model's counts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hw.config import PRESETS, CoreConfig
from hw.core import Core
from sim.runner import ROOT, run_bench
from sw import cycles, machine, reference, ticket
from sw.compiler import DoesNotFit, compile_network
from sw.image import Image, decode_logits, decode_map
from sw.network import INPUT, Network
from tests.random_networks import random_input, random_network

CONFIGS = {
    "tiny": PRESETS["tiny"],
    # Two lanes, an odd number of engines, wide words: small, but like the boards'.
    "wide": replace(PRESETS["a35t"], engines=3, map_words=512, weight_words=1024),
}
NETWORKS = 60
TOLERANCE = 0.02
"""Largest relative difference between the RTL's cycles of a network and the cycle model's."""


def random_cases(config: CoreConfig, count: int, seed: int) -> list[tuple[Network, Image]]:
    """Random networks that fit, compiled so that every map can be read back where possible."""
    rng = np.random.default_rng(seed)
    cases: list[tuple[Network, Image]] = []
    while len(cases) < count:
        network = random_network(rng, name=f"random{len(cases)}")
        try:
            try:
                image = compile_network(network, config, keep_all=True)
            except DoesNotFit:
                image = compile_network(network, config)
        except DoesNotFit:
            continue
        cases.append((network, image))
    return cases


def write_cases(folder: Path, cases, inputs) -> list[str]:
    names = []
    for index, ((_, image), arrays) in enumerate(zip(cases, inputs, strict=True)):
        case = folder / f"case{index}"
        case.mkdir()
        image.save(case / "image.npz")
        np.save(case / "inputs.npy", arrays)
        names.append(str(case))
    return names


def check_case(network: Network, image: Image, arrays: np.ndarray, folder: Path) -> tuple[int, int]:
    """Compare one network's run; returns (RTL cycles, model cycles) over its inputs."""
    dumps = np.load(folder / "maps.npy")
    counters = json.loads((folder / "counters.json").read_text())
    expected = reference.run(network, arrays)
    rtl = model = 0
    for index, array in enumerate(arrays):
        where = f"{folder}, input {index}"
        assert (decode_logits(image, dumps[index]) == expected.logits[index]).all(), where
        if image.keep_all:
            for name, layout in image.maps.items():
                if name == INPUT:      # its words may be reused once it has been read
                    continue
                want = expected.spikes[name][:, index, :, :layout.height, :layout.width]
                assert (decode_map(image, dumps[index], name) == want).all(), (where, name)
        trace = machine.run(image, array)
        for layer, counts, info in zip(trace.layers, counters[index], image.layers, strict=True):
            for ours, theirs in (("weights", "weights"), ("words", "words"),
                                 ("updates", "updates"), ("writes", "written")):
                total = sum(c[ours] for c in layer.counters)
                assert counts[theirs] == total, (where, info.name, theirs)
        predicted = cycles.simulate(image, array)
        rtl += sum(c["cycles"] for c in counters[index])
        model += sum(layer.cycles for layer in predicted.layers)
    return rtl, model


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_networks(name, seed, tmp_path):
    config = CONFIGS[name]
    print(f"seed {seed}")
    cases = random_cases(config, NETWORKS, seed)
    rng = np.random.default_rng(seed + 1000)
    inputs = [np.stack([random_input(rng, network) for _ in range(2)]) for network, _ in cases]
    folders = write_cases(tmp_path, cases, inputs)
    run_bench(Core(config), "sim.benches.core_bench", sim="verilator", cases=folders)
    for (network, image), arrays, folder in zip(cases, inputs, folders, strict=True):
        rtl, model = check_case(network, image, arrays, Path(folder))
        assert abs(rtl - model) <= TOLERANCE * rtl, f"{folder}: RTL {rtl} cycles, model {model}"


def test_bundled_ticket(tmp_path):
    """The real ticket on the core of the boards: every spike of every layer, cycles within 2 %."""
    network = ticket.load(ROOT / "bundled" / "fmnist-scnn.safetensors").network
    config = PRESETS["a35t"]
    image = compile_network(network, config, keep_all=True)
    with np.load(ROOT / "bundled" / "fashion-mnist-test500.npz") as pack:
        arrays = pack["x_test"][:2].reshape(2, 1, 28, 28)
    (folder,) = write_cases(tmp_path, [(network, image)], [arrays])
    run_bench(Core(config), "sim.benches.core_bench", sim="verilator", cases=[folder])
    rtl, model = check_case(network, image, arrays, Path(folder))
    assert abs(rtl - model) <= TOLERANCE * rtl, f"RTL {rtl} cycles, model {model}"
