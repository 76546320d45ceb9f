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
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hw import program
from hw.config import PRESETS
from sw import cycles, machine, reference
from sw.compile.listing import LayerCode, read_program
from sw.compiler import DoesNotFit, compile_network
from sw.image import Image, decode_logits
from sw.network import INPUT, Network
from tests.random_networks import random_input, random_network

CONFIG = replace(PRESETS["tiny"], engines=3, lanes=2)
"""Small, with an odd number of engines, two pairs and two neuron lanes."""

SEEDS = (4, 15, 220, 61, 225, 474,
         1405, 1239, 285, 295, 95, 1659, 886, 1075, 1994, 265, 1546, 375, 1280, 215, 1863, 2,
         1415, 242, 665, 1284, 1985, 1764, 828)
"""Of the networks. The first six notice what few do: a leak that rounds towards zero (4, 15, 220),
a lane mask whose lowest bit is ignored (61, 225, 474); the rest is from `choose`."""

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
    # Rows of exactly two words, where a shifted row runs into the next one.
    wide = {"max_size": 4, "width": 2 * CONFIG.window} if seed % 8 == 7 else {"max_size": size}
    network = random_network(rng, max_channels=int(rng.choice([2, 4, 6])), max_layers=2,
                             name=f"seed{seed}", **wide)
    image = compile_network(network, CONFIG, keep_all=True)
    return Case(seed, network, image, random_input(rng, network))


def check_software(case: Case) -> dict[str, np.ndarray]:
    """Software core against the reference.

    Returns the reference's `map.<name>` uint8 [T, C, H, W] as far as it is stored, and `logits`.
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
    return expected


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
    """What a network exercises, by names; see `FEATURES`."""
    found: set[str] = set()
    network, image = case.network, case.image
    for layer in network.layers:
        for syn in layer.synapses:
            rows = np.count_nonzero(syn.weight, axis=(1, 2, 3))
            found |= {f"{syn.bits} bit"}
            found |= {name for name, true in {
                "empty row": (rows == 0).any(), "full row": (rows == syn.weight[0].size).any(),
                "stride": syn.stride > 1, "padding": syn.padding > 0,
                "sum pool": syn.sum_pool > 1, "residual after": len(syn.sources) > 1,
                "input residual": INPUT in syn.sources and len(syn.sources) > 1}.items() if true}
        found |= {"residual before"} if len(layer.synapses) > 1 else set()
        if layer.neuron:
            neuron = layer.neuron
            found |= {f"{neuron.reset} reset", f"leak {np.sign(neuron.leak % 256)}"}
            found |= {"v_reset"} if neuron.v_reset else set()
            found |= {f"{layer.pool.mode} pool"} if layer.pool and layer.pool.size > 1 else set()
    found |= {"static" if network.input.static else "dynamic"}
    found |= {"short last group"} if network.timesteps % 4 else set()
    found |= {"input copies"} if image.inputs[0].copies == 2 and network.input.static else set()
    found |= {"copy"} if any(info.copy for info in image.layers) else set()
    for code in read_program(image.program, CONFIG):
        found |= layer_features(code)
    return found


def layer_features(code: LayerCode) -> set[str]:
    h = code.header
    true = {
        f"k {min(h['rice_k'], 3)}": True, "strips": h["n_strips"] > 1,
        "strips without flush": h["n_strips"] > 1 and not h["flush_strip"],
        "strips and groups": h["n_strips"] > 1 and h["n_groups"] > 1,
        "short last strip": h["strip_words_last"] < h["strip_words"],
        f"groups {min(h['n_groups'], 3)}": True, "phases": h["count_px"] > 1,
        "phases and groups": h["count_px"] > 1 and h["n_groups"] > 1,
        "pair": h["pair"] and not h["pair_merge"], "merge": h["pair_merge"],
        "max": h["pool_max"], "wide output": h["out_pitch"] > CONFIG.window,
        "wide input": h["row_words_mask"] > 0, "readout of many": h["readout"]
        and h["count_ox"] * h["count_oy"] > 1,
        "walk": not h["readout"] and h["inc_ox"] > 2 * h["count_kx"] and h["count_px"] == 1,
        "odd columns": h["row_valid"] % 2 and h["row_valid"] > 1,
        "planes": h["n_planes"] > 1, "plane groups": h["planes_per_group"] > 0}
    found = {name for name, value in true.items() if value}
    names = {program.EDGE_ALWAYS: "mask", program.EDGE_FIRST: "first", program.EDGE_LAST: "last"}
    full = (1 << CONFIG.window) - 1
    for tap in code.taps:
        if tap["mask"] != full:
            found.add(f"edge {names[tap['edge']]}")
        found |= {"extra word"} if tap["extra"] else set()
        found |= {"negative shift"} if tap["shift"] < 0 else set()
        found |= {"rotation"} if tap["shift"] % CONFIG.units else set()
    return found


FEATURES = frozenset({
    *(f"{bits} bit" for bits in range(1, 9)), "empty row", "full row", "stride", "padding",
    "sum pool", "residual after", "residual before", "hard reset", "soft reset", "v_reset",
    "leak 0", "leak 1", "or pool", "max pool", "static", "dynamic", "short last group",
    "input copies", "copy", "k 0", "k 1", "k 2", "k 3", "strips", "strips without flush",
    "strips and groups", "short last strip", "groups 1", "groups 2", "groups 3", "phases",
    "phases and groups", "pair", "merge", "max", "wide output", "wide input", "readout of many",
    "odd columns", "planes", "plane groups", "edge mask", "edge first", "edge last", "extra word",
    "negative shift", "rotation", "walk"})
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
        result = machine.run(case.image, case.array)
        alive = any(spikes.any() for name, spikes in result.maps.items() if name != INPUT)
        if cost <= LONGEST and (alive or len(case.network.layers) == 1):
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
