"""A short exact regression: few small networks with every feature, through every implementation.

    spiketicket check regression             reference = software core = gateware (in Icarus)
    spiketicket check regression --software  without the gateware
    spiketicket check regression --choose N  picks networks anew (after a change of their generator)

`tests/test_core.py` runs many larger networks; this one is for `sim.mutate`, which needs an answer
in seconds. It stops at the first difference.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hw import program
from hw.config import PRESETS, CoreConfig
from sim.samples.networks import random_input, random_network
from sim.samples.spikeformers import random_masks, random_spikeformer
from sw.compile import image_file
from sw.compile.coding import (
    decode_logits,
    encode_input,
    gate_input,
    lanes_to_words,
    words_to_lanes,
)
from sw.compile.compiler import compile_network
from sw.compile.image import Image
from sw.compile.listing import LayerCode, read_program
from sw.core import cycles, machine
from sw.core.weights import Weights
from sw.errors import Difference, SpikeTicketError
from sw.integer import reference
from sw.integer.gate import Gate
from sw.integer.network import INPUT, Layer, Network, Neuron

CONFIG = replace(PRESETS["tiny"], engines=3, drain_engines=2, lanes=2, map_words=1024)
"""Small, with two engines that share a drain and one with its own, and two neuron lanes."""

STREAMED = replace(CONFIG, weight_words=512, dram_words=1 << 14, ring_words=128)
"""The same with all weights in DRAM."""

SEEDS = (603, 928, 637, 1200, 891, 54, 348, 68, 527, 1116, 860, 630, 100015, 100024, 107, 628,
         100120, 386, 100091, 109, 100235, 517, 1030, 417, 794, 100057, 678, 828, 1115, 247, 257,
         100027, 471, 839, 100103, 100119, 100100, 100080, 100185, 100074, 100020, 100026, 447,
         100932, 439, 100137, 100440, 100251, 100443, 100140, 311, 318, 338)
"""Of the networks: `choose`, so that every feature occurs three times where it found so many."""

SPIKEFORMERS = 100_000
"""Seeds from here on are Spikeformers."""

LONGEST = 6500
"""Cycles of a network that `choose` still accepts."""


class Mismatch(Difference):
    """Two implementations differ; says which, where and how."""


@dataclass
class Case:
    """One network with one input."""

    seed: int
    network: Network
    image: Image
    array: np.ndarray
    mask: np.ndarray | None = None

    def reference(self) -> reference.Run:
        """What the reference makes of it."""
        masks = None if self.mask is None else self.mask[None]
        return reference.run(self.network, self.array[None], masks=masks)


def make_case(seed: int, config: CoreConfig = CONFIG) -> Case:
    """The network and input of a seed. Raises SpikeTicketError where it does not fit.

    All weights stream if the core has DRAM.
    """
    stream = config.dram_words > 0
    rng = np.random.default_rng(seed)
    if seed >= SPIKEFORMERS:
        network = random_spikeformer(rng, max_side=int(rng.choice([4, 8, 10])), max_heads=2,
                                     max_head_width=9, max_blocks=1, max_timesteps=8,
                                     column=False, name=f"seed{seed}")
        masks = random_masks(rng, network, 1)
        return Case(seed, network, compile_network(network, config, keep_all=True, stream=stream),
                    random_input(rng, network), None if masks is None else masks[0])
    size = int(rng.choice([4, 7, 10, 20]))
    shape: dict[str, int] = {"max_size": size}
    if seed % 8 == 7:               # rows of exactly two words, where a shift runs into the next
        shape = {"max_size": 4, "width": 2 * CONFIG.window}
    elif seed % 8 == 6:             # rows of three words, with a fourth one of zeros
        shape = {"max_size": 2, "width": 2 * CONFIG.window + 3}
    network = random_network(rng, max_channels=int(rng.choice([2, 4, 6])), max_layers=2,
                             name=f"seed{seed}", **shape)
    image = compile_network(network, config, keep_all=True, stream=stream)
    return Case(seed, network, image, random_input(rng, network))


def check_software(case: Case) -> dict[str, np.ndarray]:
    """Software core against the reference.

    Returns the reference's `map.<name>` uint8 [T, C, H, W] as far as it is stored, `logits`, and
    the software core's whole map memory, `memory`.
    """
    run = case.reference()
    # As on a board, too: words are used again as soon as nobody needs what is in them.
    config = case.image.config
    reusing = compile_network(case.network, config, stream=config.dram_words > 0)
    for image in (reusing, case.image):
        expected = {"logits": run.logits[0]}
        for name, layout in image.maps.items():
            if name in run.spikes and name != INPUT:
                expected[f"map.{name}"] = run.spikes[name][:, 0, :, :layout.height, :layout.width]
        result = machine.run(image, case.array, mask=case.mask)
        compare(case, expected, result.maps, decode_logits(image, result.memory),
                "software core")
    for name, layout in case.image.maps.items():
        if f"map.{name}" in expected:
            words = words_to_lanes(result.memory[layout.base:layout.base + layout.words])
            if (layout.lanes(layout.masks(words)) != words).any():
                raise Mismatch(f"network {case.seed}: spikes beside {name} in the software core")
    return expected | {"memory": result.memory} | (
        {} if case.mask is None else {"mask": case.mask})


def compare(case: Case, expected: dict[str, np.ndarray], maps: dict[str, np.ndarray],
            logits: np.ndarray, what: str) -> None:
    for name, want in expected.items():
        got = logits if name == "logits" else maps[name.removeprefix("map.")]
        if (got != want).any():
            at = np.argwhere(got != want)[0].tolist()
            raise Mismatch(f"network {case.seed}: {name} of the {what} differs from the reference "
                           f"at {at}")


def write_cases(folder: Path, cases: Iterable[Case]) -> None:
    """Check every case in software and write what the bench needs: a folder each."""
    for number, case in enumerate(cases):
        expected = check_software(case)
        place = folder / f"case{number:02}"
        place.mkdir(parents=True)
        image_file.save(case.image, place / "image.npz")
        np.savez(place / "expected.npz", array=case.array, **expected)
        trace = machine.run(case.image, case.array, mask=case.mask)
        model = cycles.simulate(case.image, case.array, case.mask)
        (place / "expected.json").write_text(json.dumps({
            "seed": case.seed, "cycles": [layer.cycles for layer in model.layers],
            # How many words of k attention reads before it notices a silent v is a matter of time.
            "counters": [{name: sum(engine[ours] for engine in layer.counters)
                          for ours, name in COUNTED.items()}
                         | {"words": timed.counters["words"]}
                         for layer, timed in zip(trace.layers, model.layers, strict=True)]}))


COUNTED = {"weights": "weights", "updates": "updates", "writes": "written"}
"""Counters that software core and gateware share: names in the one and in the other."""


def run_gateware(folder: Path, config: CoreConfig = CONFIG) -> None:
    """The core in Icarus on written cases. Raises Mismatch."""
    from hw.core import Core
    from sim.dram import CoreWithDram, verilog
    from sim.runner import run_bench

    core = CoreWithDram(config) if config.dram_words else Core(config)
    try:
        run_bench(core, "sim.units.core.regression_bench", cells=verilog(config), cases=str(folder))
    except AssertionError as error:
        lines = str(error).splitlines()
        found = [line.strip() for line in lines if "Error: " in line or "Mismatch" in line]
        raise Mismatch(found[-1] if found else lines[0]) from error


# Choosing networks


def features(case: Case) -> set[str]:
    """What a network exercises, by names; see `FEATURES`.

    Only layers whose outputs are neither all alike nor without effect count: in a dead layer
    nothing can be seen to go wrong.
    """
    network, image = case.network, case.image
    run = case.reference()
    lively = {name for name, spikes in run.spikes.items() if 0 < spikes.mean() < 1}
    found = {name for name, alter in ALTERATIONS.items() if matters(case, alter)}
    found |= {name for name, fire in WRONG_NEURONS.items() if neuron_matters(case, fire)}
    for layer in network.layers:
        if isinstance(layer, Gate):
            found |= gate_features(layer)
        elif isinstance(layer, Layer) and (layer.name in lively or layer.neuron is None):
            found |= synapse_features(layer) | neuron_features(layer)
    found |= {"static" if network.input.static else "dynamic"}
    found |= {"input copies"} if image.inputs[0].copies == 2 and network.input.static else set()
    for code, info in zip(read_program(image.program, CONFIG), image.layers, strict=True):
        if info.name in lively or code.header["readout"]:
            found |= layer_features(code) | ({"copy"} if info.copy else set())
    return found


def synapse_features(layer: Layer) -> set[str]:
    found = {"residual before"} if len(layer.synapses) > 1 else set()
    for syn in layer.synapses:
        rows = np.count_nonzero(syn.weight, axis=(1, 2, 3))
        true = {
            f"{syn.bits} bit": True, "empty row": (rows == 0).any(),
            "full row": (rows == syn.weight[0].size).any(), "stride": syn.stride > (1, 1),
            "padding": syn.padding > (0, 0), "sum pool": syn.sum_pool > (1, 1),
            "residual after": len(syn.sources) > 1}
        found |= {name for name, value in true.items() if value}
    return found


def gate_features(gate: Gate) -> set[str]:
    found = {f"gate {gate.mode}"}
    found |= {"keep 1"} if gate.keep == 1 < gate.tokens else set()
    found |= {"keep all"} if gate.keep == gate.tokens else set()
    return found | ({"scores of two maps"} if len(gate.scores) > 1 else set())


def neuron_features(layer: Layer) -> set[str]:
    if layer.neuron is None:
        return set()
    found = {f"{layer.neuron.reset} reset", f"leak {np.sign(layer.neuron.leak % 256)}"}
    found |= {"v_reset"} if layer.neuron.v_reset else set()
    pooled = layer.pool and layer.pool.size > (1, 1)
    return found | ({f"{layer.pool.mode} pool"} if pooled else set())


def layer_features(code: LayerCode) -> set[str]:
    h = code.header
    if h["gate"]:
        return set()
    outputs = h["count_ox"] * h["count_oy"]
    row_words = -(-h["count_ox"] * (1 + (h["pair"] and not h["pair_merge"])) // CONFIG.window)
    true = {
        f"k {min(h['rice_k'], 3)}": True, "strips": h["n_strips"] > 1,
        "strips without flush": h["n_strips"] > 1 and not h["flush_strip"],
        "strips and groups": h["n_strips"] > 1 and h["n_groups"] > 1,
        "short last strip": h["strip_words_last"] < h["strip_words"],
        f"groups {min(h['n_groups'], 3)}": True, "phases": h["count_px"] > 1,
        "phases and groups": h["count_px"] > 1 and h["n_groups"] > 1,
        "pair": h["pair"] and not h["pair_merge"], "merge": h["pair_merge"],
        "max": h["pool_max"] and h["count_ky"] > 1, "wide output": h["out_pitch"] > CONFIG.window,
        "words of zeros": h["out_pitch"] // CONFIG.window > row_words,
        "a word an output": h["count_px"] > 1 and outputs == 1 and h["count_ky"] == 1
        and min(engine["rows"] for engine in code.engines) > 0,
        "wide input": h["row_words_mask"] > 0, "readout of many": h["readout"] and outputs > 1,
        "walk": not h["readout"] and h["inc_ox"] > 2 * h["count_kx"] and h["count_px"] == 1,
        "attention": h["attention"], "attention and groups": h["attention"] and h["n_groups"] > 1,
        "attention and strips": h["attention"] and h["n_strips"] > 1,
        "attention of many words": h["attention"] and h["key_words"] > 1,
        "selection": h["listed"], "selection of a grid": h["listed"] and h["pitch_mask"] >= 1
        and h["positions"] > h["pitch_mask"] + 1, "selection and groups": h["listed"]
        and h["n_groups"] > 1, "scores": h["score"],
        "pools overlap": h["pool_overlap"],
        "pools overlap and strips": h["pool_overlap"] and h["n_strips"] > 1,
        "planes": h["n_planes"] > 1, "plane groups": h["planes_per_group"] > 0,
        "bit-planes and groups": h["bit_planes"] and h["n_groups"] > 1,
        "bit-planes in two words": h["bit_planes"] and any(p["shift"] == 4 for p in code.planes),
        "bit-planes of phases": h["bit_planes"] and len(code.planes) > 2}
    found = {name for name, value in true.items() if value}
    for tap in code.taps:
        found |= {"extra word"} if tap["extra"] else set()
        found |= {"negative shift"} if tap["shift"] < 0 else set()
        found |= {"rotation"} if tap["shift"] % CONFIG.units else set()
    return found


def _header(**values) -> Callable[[LayerCode], LayerCode]:
    def alter(code: LayerCode) -> LayerCode:
        made = {name: value(code.header) for name, value in values.items()}
        return replace(code, header=code.header | made)
    return alter


def _taps(edge: int, mask: Callable[[int], int]) -> Callable[[LayerCode], LayerCode]:
    def alter(code: LayerCode) -> LayerCode:
        return replace(code, taps=[
            tap | {"mask": mask(tap["mask"])} if tap["edge"] == edge else tap
            for tap in code.taps])
    return alter


ALTERATIONS: dict[str, Callable[[LayerCode], LayerCode]] = {
    "mask": _taps(program.EDGE_ALWAYS, lambda mask: (1 << CONFIG.window) - 1),
    "mask bit 0": _taps(program.EDGE_ALWAYS, lambda mask: mask | 1),
    "mask of first words": _taps(program.EDGE_FIRST, lambda mask: (1 << CONFIG.window) - 1),
    "mask of last words": _taps(program.EDGE_LAST, lambda mask: (1 << CONFIG.window) - 1),
    "row_valid": _header(row_valid=lambda h: h["row_valid"] + 1),
    "positions_last": _header(positions_last=lambda h: h["positions"]),
    "last_mask": _header(last_mask=lambda h: 15),
    "maximum": _header(pool_max=lambda h: 0),
    "keys of a group": _header(key_group_stride=lambda h: 0),
    "bit-planes": _header(bit_planes=lambda h: 0),
    "heads": _header(head_width=lambda h: min(64, 2 * h["head_width"])),
}
"""Wrong programs that a network must notice, by the feature they stand for."""


def matters(case: Case, alter: Callable[[LayerCode], LayerCode]) -> bool:
    """Whether an altered program leaves another map memory behind."""
    image, memories = case.image, []
    codes = read_program(image.program, CONFIG)
    altered = [alter(code) for code in codes]
    if altered == codes:
        return False
    for program_codes in (codes, altered):
        memory = np.zeros((CONFIG.map_words, CONFIG.window // 2), np.uint8)
        array, mask = gate_input(image, case.array, case.mask)
        for address, words in encode_input(image, array):
            memory[address:address + len(words)] = words
        lanes, gate = words_to_lanes(memory), machine.GateState.begin(CONFIG, mask)
        weights = Weights.of(image)
        try:
            for code in program_codes:
                machine.run_layer(code, weights.of_layer(code), lanes, CONFIG, gate)
        except RuntimeError:
            return False
        memories.append(lanes_to_words(lanes))
    return bool((memories[0] != memories[1]).any())


def _wrong_neuron(late: int, rounding: int) -> Callable[..., np.ndarray]:
    """`reference.fire` with `late` added to the threshold, and a leak that rounds."""
    def fire(neuron: Neuron, threshold: np.ndarray, current: np.ndarray,
             timesteps: int) -> np.ndarray:
        theta = threshold.reshape(1, -1, 1, 1)
        v = np.full(current.shape[1:], neuron.v_reset, np.int64)
        spikes = np.empty((timesteps, *current.shape[1:]), np.uint8)
        for t in range(timesteps):
            v = v * neuron.leak
            v = (v + np.where(v < 0, 255, 0) if rounding == 1 else v + 128 * (rounding == 2)) >> 8
            v = v + current[t if len(current) > 1 else 0]
            spikes[t] = s = v >= theta + late
            v = np.where(s, neuron.v_reset, v) if neuron.reset == "hard" else v - theta * s
        return spikes
    return fire


WRONG_NEURONS = {
    "equal to the threshold": _wrong_neuron(1, 0), "negative fraction": _wrong_neuron(0, 1),
    "fraction": _wrong_neuron(0, 2)}
"""Wrong neurons that a network must notice, by the feature they stand for."""


def neuron_matters(case: Case, fire: Callable[..., np.ndarray]) -> bool:
    """Whether the reference with another `fire` makes other spikes or logits."""
    right, run = reference.fire, case.reference()
    reference.fire = fire
    try:
        wrong = case.reference()
    finally:
        reference.fire = right
    return bool((run.logits != wrong.logits).any()
                or any((run.spikes[name] != wrong.spikes[name]).any() for name in run.spikes))


FEATURES = frozenset({
    *(f"{bits} bit" for bits in range(1, 9)), "empty row", "full row", "stride", "padding",
    "sum pool", "residual after", "residual before", "hard reset", "soft reset", "v_reset",
    "leak 0", "leak 1", "or pool", "max pool", "static", "dynamic", "input copies", "copy",
    "k 0", "k 1", "k 2", "k 3", "strips", "strips without flush", "strips and groups",
    "short last strip", "groups 1", "groups 2", "groups 3", "phases", "phases and groups", "pair",
    "merge", "max", "wide output", "words of zeros", "a word an output", "wide input",
    "readout of many", "planes", "plane groups", "extra word", "negative shift", "rotation",
    "walk", "attention", "attention and groups", "attention and strips", "attention of many words",
    "selection", "selection of a grid", "selection and groups", "scores",
    "pools overlap", "pools overlap and strips", "bit-planes and groups",
    "bit-planes in two words", "bit-planes of phases", "gate static", "gate host", "gate count",
    "gate input", "keep 1", "keep all", "scores of two maps", *ALTERATIONS, *WRONG_NEURONS})
"""All of `features` that the regression must have."""


def choose(seeds: Iterable[int], times: int = 3) -> list[int]:
    """Few quick seeds that together have every feature so many times."""
    pool: dict[int, tuple[set[str], int]] = {}
    for seed in seeds:
        try:
            case = make_case(seed)
        except SpikeTicketError:
            continue
        cost = cycles.simulate(case.image, case.array, case.mask).total
        if cost <= LONGEST:
            pool[seed] = features(case) & FEATURES, cost + 300      # 300: loading and reading
    missing = dict.fromkeys(FEATURES, times)
    chosen: list[int] = []
    while any(missing.values()) and pool:
        def gain(seed: int) -> float:
            return sum(missing[name] > 0 for name in pool[seed][0]) / pool[seed][1]

        best = max(pool, key=gain)
        if not gain(best):
            break
        for name in pool[best][0]:
            missing[name] = max(0, missing[name] - 1)
        chosen.append(best)
        del pool[best]
    for name, count in sorted(missing.items()):
        if count:
            print(f"missing {count} x {name}", file=sys.stderr)
    return chosen


def choose_of_both(below: int) -> list[int]:
    """`choose` from the seeds below this of both kinds of network."""
    return choose(itertools.chain(range(below), range(SPIKEFORMERS, SPIKEFORMERS + below)))


def run(*, software: bool = False, cases: Path | None = None, gateware: Path | None = None) -> None:
    """The regression; cases: where to write them; gateware: only that, on cases written before.

    Raises Mismatch at the first difference.
    """
    if gateware:
        run_gateware(gateware)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = cases or Path(temporary)
        write_cases(folder, map(make_case, SEEDS))
        if not software:
            run_gateware(folder)
