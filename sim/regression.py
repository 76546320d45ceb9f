"""A short exact regression: few small networks with every feature, through every implementation.

    python -m sim.regression             reference = software core = gateware (in Icarus)
    python -m sim.regression --software  without the gateware
    python -m sim.regression --choose    picks networks anew (after a change of their generator)

`tests/test_core.py` runs many larger networks; this one is for `sim.mutate`, which needs an answer
in seconds. It stops at the first difference.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hw import program
from hw.config import PRESETS
from sw import cycles, machine, reference
from sw.compile.listing import LayerCode, read_program
from sw.compiler import DoesNotFit, compile_network
from sw.image import Image, decode_logits, encode_input, lanes_to_words, words_to_lanes
from sw.network import INPUT, Layer, Network
from tests.random_networks import random_input, random_network

CONFIG = replace(PRESETS["tiny"], engines=3, lanes=2)
"""Small, with an odd number of engines, two pairs and two neuron lanes."""

SEEDS = (1405, 1702, 891, 637, 1659, 95, 474, 1925, 1346, 2927, 853, 2129, 2814, 2218, 2191, 828,
         2045, 1817, 103, 2046, 517, 1030, 2247, 1359, 417, 1227, 2899, 1418, 821, 2897, 1098,
         1449, 794, 1863)
"""Of the networks: `choose`, so that every feature occurs at least three times."""

LONGEST = 2500
"""Cycles of a network that `choose` still accepts."""


class Mismatch(Exception):
    """Two implementations differ; says which, where and how."""


@dataclass
class Case:
    """One network with one input."""

    seed: int
    network: Network
    image: Image
    array: np.ndarray


def make_case(seed: int) -> Case:
    """The network and input of a seed. Raises DoesNotFit."""
    rng = np.random.default_rng(seed)
    size = int(rng.choice([4, 7, 10, 20]))
    shape: dict[str, int] = {"max_size": size}
    if seed % 8 == 7:               # rows of exactly two words, where a shift runs into the next
        shape = {"max_size": 4, "width": 2 * CONFIG.window}
    elif seed % 8 == 6:             # rows of three words, with a fourth one of zeros
        shape = {"max_size": 2, "width": 2 * CONFIG.window + 3}
    network = random_network(rng, max_channels=int(rng.choice([2, 4, 6])), max_layers=2,
                             name=f"seed{seed}", **shape)
    image = compile_network(network, CONFIG, keep_all=True)
    return Case(seed, network, image, random_input(rng, network))


def check_software(case: Case) -> dict[str, np.ndarray]:
    """Software core against the reference.

    Returns the reference's `map.<name>` uint8 [T, C, H, W] as far as it is stored, `logits`, and
    the software core's whole map memory, `memory`.
    """
    run = reference.run(case.network, case.array[None])
    # As on a board, too: words are used again as soon as nobody needs what is in them.
    reusing = compile_network(case.network, CONFIG)
    for image in (reusing, case.image):
        expected = {"logits": run.logits[0]}
        for name, layout in image.maps.items():
            if name in run.spikes and name != INPUT:
                expected[f"map.{name}"] = run.spikes[name][:, 0, :, :layout.height, :layout.width]
        result = machine.run(image, case.array)
        compare(case, expected, result.maps, decode_logits(image, result.memory),
                "software core")
    for name, layout in case.image.maps.items():
        if f"map.{name}" in expected:
            words = words_to_lanes(result.memory[layout.base:layout.base + layout.words])
            if (layout.lanes(layout.masks(words)) != words).any():
                raise Mismatch(f"network {case.seed}: spikes beside {name} in the software core")
    return expected | {"memory": result.memory}


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
        case.image.save(place / "image.npz")
        np.savez(place / "expected.npz", array=case.array, **expected)
        trace = machine.run(case.image, case.array)
        model = cycles.simulate(case.image, case.array)
        (place / "expected.json").write_text(json.dumps({
            "seed": case.seed, "cycles": [layer.cycles for layer in model.layers],
            "counters": [{name: sum(engine[ours] for engine in layer.counters)
                          for ours, name in COUNTED.items()} for layer in trace.layers]}))


COUNTED = {"weights": "weights", "words": "words", "updates": "updates", "writes": "written"}
"""Counters that software core and gateware share: names in the one and in the other."""


def run_gateware(folder: Path) -> None:
    """The core in Icarus on written cases. Raises Mismatch."""
    from hw.core import Core
    from sim.runner import run_bench

    try:
        run_bench(Core(CONFIG), "sim.benches.regression_bench", cases=str(folder))
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
    run = reference.run(network, case.array[None])
    lively = {name for name, spikes in run.spikes.items() if 0 < spikes.mean() < 1}
    found = {name for name, alter in ALTERATIONS.items() if matters(case, alter)}
    found |= {name for name, fire in WRONG_NEURONS.items() if neuron_matters(case, fire)}
    for layer in network.layers:
        if layer.name in lively or layer.neuron is None:
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
            "full row": (rows == syn.weight[0].size).any(), "stride": syn.stride > 1,
            "padding": syn.padding > 0, "sum pool": syn.sum_pool > 1,
            "residual after": len(syn.sources) > 1}
        found |= {name for name, value in true.items() if value}
    return found


def neuron_features(layer: Layer) -> set[str]:
    if layer.neuron is None:
        return set()
    found = {f"{layer.neuron.reset} reset", f"leak {np.sign(layer.neuron.leak % 256)}"}
    found |= {"v_reset"} if layer.neuron.v_reset else set()
    return found | ({f"{layer.pool.mode} pool"} if layer.pool and layer.pool.size > 1 else set())


def layer_features(code: LayerCode) -> set[str]:
    h = code.header
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
        "planes": h["n_planes"] > 1, "plane groups": h["planes_per_group"] > 0}
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
        for address, words in encode_input(image, case.array):
            memory[address:address + len(words)] = words
        lanes = words_to_lanes(memory)
        try:
            for code in program_codes:
                machine.run_layer(code, image.weights, lanes, CONFIG)
        except RuntimeError:
            return False
        memories.append(lanes_to_words(lanes))
    return bool((memories[0] != memories[1]).any())


def _wrong_neuron(late: int, rounding: int) -> Callable[..., np.ndarray]:
    """`reference.fire` with `late` added to the threshold, and a leak that rounds."""
    def fire(layer: Layer, current: np.ndarray, timesteps: int) -> np.ndarray:
        neuron, theta = layer.neuron, layer.threshold.reshape(1, -1, 1, 1)
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
    right, run = reference.fire, reference.run(case.network, case.array[None])
    reference.fire = fire
    try:
        wrong = reference.run(case.network, case.array[None])
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
    "walk", *ALTERATIONS, *WRONG_NEURONS})
"""All of `features` that the regression must have."""


def choose(seeds: Iterable[int], times: int = 3) -> list[int]:
    """Few quick seeds that together have every feature so many times."""
    pool: dict[int, tuple[set[str], int]] = {}
    for seed in seeds:
        try:
            case = make_case(seed)
        except DoesNotFit:
            continue
        cost = cycles.simulate(case.image, case.array).total
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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sim.regression", description=__doc__.split("\n")[0],
        epilog="exit code 0: all equal; 1: a difference, named on standard error.")
    parser.add_argument("--software", action="store_true", help="without the gateware")
    parser.add_argument("--cases", type=Path, metavar="DIR",
                        help="where to write the cases (default: a temporary folder)")
    parser.add_argument("--gateware", type=Path, metavar="DIR",
                        help="only the gateware, on cases written before")
    parser.add_argument("--choose", type=int, metavar="N",
                        help="only print seeds below N that have every feature")
    options = parser.parse_args(arguments)
    if options.choose:
        print(choose(range(options.choose)))
        return 0
    try:
        if options.gateware:
            run_gateware(options.gateware)
            return 0
        with tempfile.TemporaryDirectory() as temporary:
            folder = options.cases or Path(temporary)
            write_cases(folder, map(make_case, SEEDS))
            if not options.software:
                run_gateware(folder)
    except Mismatch as difference:
        print(difference, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
