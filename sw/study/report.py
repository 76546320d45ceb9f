"""The tables of the trade study: each function measures one and returns plain rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hw.config import CoreConfig

from .. import area
from ..compile.compiler import DoesNotFit
from ..integer import reference
from . import areas, gather, storage
from .column import Column
from .dataflow import loads
from .events import Events
from .position import Position
from .workloads import Workload, nmnist, spikformer, trained, vgg9

RIVALS = (Column(), Position(32), Position(64), Events())
BASE = CoreConfig()

Row = dict[str, object]


def workloads(ticket: Path | None = None, recordings: Path | None = None,
              index: int = 0) -> dict[str, Callable[[], Workload]]:
    """The study's workloads by key, made on demand."""
    return {
        "ticket": lambda: trained(ticket, index),
        "vgg9": vgg9,
        "spikformer-95": lambda: spikformer(0.95),
        "spikformer-98.6": lambda: spikformer(0.986),
        "nmnist": lambda: nmnist(recordings, index=index),
    }


def comparison(cases: Iterable[Workload], device: str, config: CoreConfig = BASE) -> list[Row]:
    """Every dataflow on every workload with as many engines as fit the device."""
    rows: list[Row] = []
    for workload in cases:
        images, useful = workload.images, workload.useful / workload.images
        work = [loads(workload, image) for image in range(images)]
        for rival in RIVALS:
            count = areas.engines(rival.key, config, device)
            outcomes = [rival.run(load, count) for one in work for load in one]
            total = sum(o.cycles for o in outcomes) / images
            bits = sum(o.bits for o in outcomes) / images
            width = rival.positions if isinstance(rival, Position) else 8
            rows.append(_row(workload, rival.name, rival.key, count, width, useful, total, bits,
                             config, sum(o.causes["imbalance"] for o in outcomes) / images / total,
                             rival.event_lists))
        for name, key, skip in ((gather.NAME, "gather", True), (gather.SCANNING, "scan", False)):
            count = areas.engines(key, config, device)
            ours = gather.run(workload, replace(config, engines=count), skip)
            bits = sum(layer.value_bits + layer.index_bits + layer.padding_bits
                       for image in ours.images for layer in image.layers)
            rows.append(_row(workload, name, key, count, config.units, useful,
                             ours.cycles.total / images, bits, config,
                             ours.cycles.by_cause["imbalance"] / ours.cycles.total))
    return rows


def _row(workload: Workload, name: str, key: str, count: int, width: int, useful: float,
         total: float, bits: float, config: CoreConfig, imbalance: float,
         event_lists: bool = False) -> Row:
    luts = count * areas.engine_luts(key, config)
    survivors = workload.network.weights_surviving
    return {"workload": workload.key, "dataflow": name, "engines": count, "slots": count * width,
            "LUTs": round(luts + area.rest(config).lut), "cycles": round(total),
            "useful/cycle": round(useful / total, 1),
            "useful fraction": round(useful / total / (count * width), 2),
            "useful/cycle per 10k LUT": round(useful / total / luts * 1e4, 1),
            "imbalance": round(imbalance, 3), "bits/weight": round(bits / survivors, 2),
            "map kbit": _kbit(_map_bits(workload, event_lists))}


def _map_bits(workload: Workload, event_lists: bool) -> int:
    """Bits for the two largest neighbouring maps, so that no input can overflow them.

    A mask is a bit per timestep of every position; an event list must hold all positions, each
    a mask and its place, and a pointer per channel.
    """
    sizes = []
    for name, shape in workload.network.shapes().items():
        planes = len(reference.fields(workload.network, name))
        positions = shape.height * shape.width
        per_channel = 4 * positions
        if event_lists:
            place = max(1, (positions - 1).bit_length())
            per_channel = (4 + place) * positions + storage.POINTER_BITS
        sizes.append(planes * shape.channels * per_channel)
    return max(a + b for a, b in itertools.pairwise(sizes))


def causes(cases: Iterable[Workload], config: CoreConfig) -> list[Row]:
    """Where our cycles go, and what memory holds."""
    rows: list[Row] = []
    for workload in cases:
        ours = gather.run(workload, config)
        total = ours.cycles.total
        count = ours.cycles.counters
        layers = [layer for image in ours.images for layer in image.layers]
        row: Row = {"workload": workload.key, "cycles": round(total / workload.images),
                    "useful/cycle": round(ours.rate, 1), "fraction": round(ours.fraction, 2)}
        row |= {cause: f"{value / total:.1%}" for cause, value in ours.cycles.by_cause.items()}
        map_words = max(m.used for image in ours.images for m in image.memories
                        if m.name == "map memory")
        row |= {
            "value kbit": _kbit(sum(layer.value_bits for layer in layers)),
            "index kbit": _kbit(sum(layer.index_bits for layer in layers)),
            "row header kbit": _kbit(sum(layer.header_bits for layer in layers)),
            "pointer kbit": _kbit(32 * len(layers) * config.engines),
            "map kbit (a copy)": _kbit(map_words * config.map_bits),
            "program kbit": _kbit(32 * sum(len(image.program) for image in ours.images)),
            "updates/word": round(count["updates"] / max(1, count["words"]), 1),
            "codes/weight": round(count["codes"] / max(1, count["weights"]), 2),
        }
        rows.append(row)
    return rows


def _kbit(bits: float) -> float:
    return round(bits / 1e3, 1)


def parameters(cases: Sequence[Workload], engines: int) -> list[Row]:
    """Our core with one parameter changed at a time: useful updates a cycle and LUTs."""
    base = replace(BASE, engines=engines)
    variants: list[tuple[str, dict[str, int]]] = [("default", {})]
    variants += [("lanes 1", {"lanes": 1}), ("units 4", {"units": 4}),
                 ("units 16", {"units": 16}), ("window 16", {"window": 16}),
                 ("acc_depth 32", {"acc_depth": 32}), ("acc_depth 8", {"acc_depth": 8}),
                 ("queue 16", {"queue_depth": 16}), ("queue 64", {"queue_depth": 64})]
    variants += [(f"engines {n}", {"engines": n}) for n in (2, 3, 4, 5, 6, 8, 12, 16)]
    rows: list[Row] = []
    for name, change in variants:
        config = replace(base, **change)
        row: Row = {"variant": name, "slots": config.slots,
                    "LUTs": area.estimate(config).lut}
        for workload in cases:
            try:
                ours = gather.run(workload, config)
                row[workload.key] = f"{ours.rate:.1f} ({ours.fraction:.0%})"
            except DoesNotFit:              # a row of the map does not fit the accumulators
                row[workload.key] = "does not fit"
        rows.append(row)
    return rows


def event_driven(config: CoreConfig) -> list[Row]:
    """Cycles with fewer spikes, fewer weights, fewer positions: one at a time."""
    rows: list[Row] = []
    for what, values in (("activity", (0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.0)),
                         ("density", (0.2, 0.1, 0.05, 0.02, 0.01, 0.005)),
                         ("positions kept", (1.0, 0.75, 0.5, 0.25, 0.0))):
        for value in values:
            point = {"activity": 0.3, "density": 0.1, "positions kept": 1.0} | {what: value}
            workload = _square(**{k.replace(" ", "_"): v for k, v in point.items()})
            ours = gather.run(workload, config)
            scanning = gather.run(workload, config, skip_silent=False)
            rows.append({"varied": what, "value": value, "cycles": ours.cycles.total,
                         "useful/cycle": round(ours.rate, 1),
                         "cycles if silent words are read": scanning.cycles.total})
    return rows


def _square(activity: float, density: float, positions_kept: float) -> Workload:
    """Two convolutions 64 -> 64 on 16 x 16; the top rows of the maps are kept, the rest silent."""
    from ..integer.network import InputSpec, Network
    from . import workloads as w
    rng = np.random.default_rng(5)
    layers = (w.layer("a", w.random_weights(rng, (64, 64, 3, 3), density, 4), "input"),
              w.layer("b", w.random_weights(rng, (64, 64, 3, 3), density, 4), "a"),
              w.layer("out", w.random_weights(rng, (10, 64, 1, 1), density, 4), "b", neuron=False))
    network = Network(InputSpec(64, 16, 16, 1, static=False), w.TIMESTEPS, layers, "square")
    spikes = w.random_spikes(network, activity, 6)
    kept = round(16 * positions_kept)
    for name in spikes:
        spikes[name][..., kept:, :] = 0
    return Workload("square", "two 64 -> 64 convolutions on 16 x 16", network, spikes)


def sensitivity(config: CoreConfig) -> list[Row]:
    """Spikformer's layers over the assumed activity."""
    rows: list[Row] = []
    for sparsity in (0.95, 0.986):
        for activity in (0.1, 0.2, 0.3, 0.4, 0.5):
            ours = gather.run(spikformer(sparsity, activity), config)
            rows.append({"sparsity": sparsity, "activity": activity,
                         "cycles": ours.cycles.total, "useful/cycle": round(ours.rate, 1),
                         "fraction": round(ours.fraction, 2)})
    return rows


def ladder(workload: Workload, config: CoreConfig) -> list[Row]:
    """Dense, spike skip, weight skip, both: the same units and layers.

    The last row is `both` on a core that reads silent words, too.
    """
    network = workload.network
    rng = np.random.default_rng(7)

    def filled(weight: np.ndarray) -> np.ndarray:
        return np.where(weight == 0, rng.choice(np.array([-1, 1], np.int8), weight.shape), weight)

    dense = replace(network, layers=tuple(
        replace(layer, synapses=tuple(replace(s, weight=filled(s.weight)) for s in layer.synapses))
        for layer in network.layers))
    busy = {name: np.full_like(v, v.max() if v.size and v.max() <= 1 else 255)
            for name, v in workload.spikes.items()}
    rows: list[Row] = []
    for name, net, spikes, skip in (
            ("dense", dense, busy, True), ("spike skip", dense, workload.spikes, True),
            ("weight skip", network, busy, True), ("both", network, workload.spikes, True),
            ("both, silent words read", network, workload.spikes, False)):
        ours = gather.run(Workload(workload.key, name, net, spikes), config, skip)
        total = round(ours.cycles.total / workload.images)
        rows.append({"ladder": name, "cycles": total,
                     "times faster": round(rows[0]["cycles"] / total, 1) if rows else 1.0})
    return rows


def formats() -> list[Row]:
    """Bits per surviving weight, 1-bit and 4-bit values."""
    return [{"bits": bits} | {key: round(float(value), 3) for key, value in row.items()}
            for bits in (1, 4) for row in storage.sweep(bits)]
