"""The core in cocotb against the integer reference and the cycle model: spikes, cycles, counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hw.boards import BOARDS
from hw.config import PRESETS, CoreConfig
from hw.core import Core
from sim.runner import run_bench
from sim.samples.networks import random_input, random_network
from sim.samples.spikeformers import random_masks, random_spikeformer
from sw import bundled, ticket
from sw.compile import image_file
from sw.compile.coding import decode_logits, decode_map
from sw.compile.compiler import DoesNotFit, compile_network
from sw.compile.image import Image
from sw.core import cores, cycles, machine
from sw.data import datasets
from sw.integer import reference
from sw.integer.network import INPUT, Network

CONFIGS = {
    "tiny": PRESETS["tiny"],
    # Wide words, a drain of two lanes for two engines and one for an engine of its own.
    "wide": replace(PRESETS["a35tw"], engines=3, drain_engines=2, lanes=2, map_words=512,
                    weight_words=1024),
}
NETWORKS = 60
SPIKEFORMERS = 40


def random_cases(config: CoreConfig, count: int, seed: int,
                 draw: Callable[..., Network] = random_network) -> list[tuple[Network, Image]]:
    """Random networks that fit, compiled so that every map can be read back where possible."""
    rng = np.random.default_rng(seed)
    cases: list[tuple[Network, Image]] = []
    while len(cases) < count:
        network = draw(rng, name=f"random{len(cases)}")
        try:
            try:
                image = compile_network(network, config, keep_all=True)
            except DoesNotFit:
                image = compile_network(network, config)
        except DoesNotFit:
            continue
        cases.append((network, image))
    return cases


def draw_spikeformer(rng: np.random.Generator, name: str) -> Network:
    """With attention, patch gates of every mode, and pools that overlap."""
    return random_spikeformer(rng, column=False, name=name, max_side=int(rng.choice([4, 8, 12])),
                              max_timesteps=int(rng.choice([4, 16])))


def write_cases(folder: Path, cases, inputs, masks=None) -> list[str]:
    names = []
    masks = masks or [None] * len(inputs)
    for index, ((_, image), arrays, kept) in enumerate(zip(cases, inputs, masks, strict=True)):
        case = folder / f"case{index}"
        case.mkdir()
        image_file.save(image, case / "image.npz")
        np.save(case / "inputs.npy", arrays)
        if kept is not None:
            np.save(case / "masks.npy", kept)
        names.append(str(case))
    return names


def check_case(network: Network, image: Image, arrays: np.ndarray, folder: Path,
               masks: np.ndarray | None = None, before: int = 0) -> int:
    """Compare one network's run: its spikes, and every layer's cycles and counts.

    before, result: the drain that the write arbiter served last, before and after it. Networks
    follow each other on one core that is never reset.
    """
    dumps = np.load(folder / "maps.npy")
    counters = json.loads((folder / "counters.json").read_text())
    expected = reference.run(network, arrays, masks=masks)
    for index, array in enumerate(arrays):
        where = f"{folder}, input {index}"
        assert (decode_logits(image, dumps[index]) == expected.logits[index]).all(), where
        if image.keep_all:
            for name, layout in image.maps.items():
                if name == INPUT:      # its words may be reused once it has been read
                    continue
                want = expected.spikes[name][:, index, :, :layout.height, :layout.width]
                assert (decode_map(image, dumps[index], name) == want).all(), (where, name)
        mask = None if masks is None else masks[index]
        trace = machine.run(image, array, mask=mask)
        predicted = cycles.simulate(image, array, mask, before)
        before = predicted.served
        layers = zip(trace.layers, predicted.layers, counters[index], image.layers, strict=True)
        for layer, model_layer, counts, info in layers:
            for ours, theirs in (("weights", "weights"), ("words", "words"),
                                 ("updates", "updates"), ("writes", "written")):
                total = sum(c[ours] for c in layer.counters)
                if (theirs, info.kind) == ("words", "attention"):
                    # How many words of k are read before a silent v is noticed.
                    total = model_layer.counters["words"]
                assert counts[theirs] == total, (where, info.name, theirs)
            assert counts["cycles"] == model_layer.cycles, (where, info.name)
    return before


def check_cases(config, cases, seed, tmp_path):
    """Two random inputs of each case on the gateware, everything compared; (inputs, masks, folder)
    of each."""
    rng = np.random.default_rng(seed + 1000)
    inputs = [np.stack([random_input(rng, network) for _ in range(2)]) for network, _ in cases]
    masks = [random_masks(rng, network, 2) for network, _ in cases]
    folders = write_cases(tmp_path, cases, inputs, masks)
    run_bench(Core(config), "sim.units.core.bench", sim="verilator", cases=folders)
    before, given = 0, list(zip(inputs, masks, map(Path, folders), strict=True))
    for (network, image), (arrays, chosen, folder) in zip(cases, given, strict=True):
        before = check_case(network, image, arrays, folder, chosen, before)
    return given


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_networks(name, seed, tmp_path):
    config = CONFIGS[name]
    print(f"seed {seed}")
    check_cases(config, random_cases(config, NETWORKS, seed), seed, tmp_path)


@pytest.mark.parametrize("name", CONFIGS)
def test_random_spikeformers(name, tmp_path):
    config = replace(CONFIGS[name], attention=True, gate=True, map_words=2048, weight_words=2048,
                     planes=64)
    print("seed 3")
    check_cases(config, random_cases(config, SPIKEFORMERS, 3, draw_spikeformer), 3, tmp_path)


@pytest.mark.parametrize("name", bundled.names())
def test_bundled_ticket(name, tmp_path):
    """A real ticket on the core of the boards: every spike, and the cycles, of every layer.

    The map memory is larger than the boards', so that every map can be read at the end.
    """
    found = ticket.load(bundled.find(name))
    network = found.network
    _, config = cores.choose(BOARDS["arty_a7"], network)
    config = replace(config, map_words=8192)
    image = compile_network(network, config, keep_all=True)
    arrays = datasets.for_network(network, bundled.data_for(found), limit=2).images
    (folder,) = write_cases(tmp_path, [(network, image)], [arrays])
    run_bench(Core(config), "sim.units.core.bench", sim="verilator", cases=[folder])
    check_case(network, image, arrays, Path(folder))
