"""Cycle model of the core: how long an image takes, layer by layer and cause by cause.

    cycles = simulate(image, array)          # a real input: exactly what the gateware does
    cycles = forecast(image, activity)       # no input: synthetic spikes of the given activity
    cycles = replay(image, spikes)           # spikes from elsewhere, e.g. of the reference

All step the registers of every engine (`sw.core.cycle_kernel`), after the cycle contract of
`docs/core.md`. Spikes for `simulate` come from `sw.core.machine`, the bit-exact software core.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hw.config import CoreConfig, top_k_cycles
from hw.sdram_timing import SdramCycles

from ..compile.coding import encode_input, gate_input, to_masks, words_to_lanes
from ..compile.image import Image, LayerInfo, MapLayout
from ..compile.listing import LayerCode, read_program
from ..errors import SpikeTicketError
from ..integer.network import INPUT
from . import cycle_kernel as kernel
from . import machine, synthetic
from .cycle_arrays import layer_arrays
from .dram_timing import DramTiming, timing_of
from .steps.dram import Dram, dram_cycles, dram_settles, new_dram
from .weights import Places, Weights

CAUSES = ("synapses", "event_scan", "queue_stall", "neuron_update", "port_stall", "weight_decode",
          "imbalance", "program", "gate")
"""Where a layer's cycles went. Cycles of the engines are split by what the accumulate units did
(a unit-cycle is 1 / (engines x units) of a cycle):

synapses: updates. event_scan: map words with fewer events than units, weights with only silent
words. queue_stall: another unit's queue was full. neuron_update: waiting for, or giving way to,
the drain; neurons and writes after the last weight. port_stall: the map port was taken by a
write. weight_decode: no weight yet (skip codes, row headers, rewinding; in attention also k and v).
imbalance: the engine was done, others were not. program: loading the layer's program words. gate:
choosing tokens; clearing their scores, as far as it takes longer than loading."""

COUNTERS = ("words", "weights", "updates", "queue_stall", "port_stall", "starved", "bank_wait",
            "neurons", "written", "codes", "passes", "silent_words")
"""Events: map words fetched, weights (or items of attention) applied in all passes, updates, cycles
an engine's fetch waited
for a queue, for the map port, for a weight; unit-cycles waiting for a bank; neuron updates, map
words written, codes decoded, passes, and fetched words without an allowed active lane. The
first nine are the gateware's counters too."""

LOG = 10
"""Cycles in which a layer's counters are logged."""

STEP_OVERHEAD = LOG + 2
"""Cycles around a layer that its counter does not see: begin, start, the log."""

RESTART = 12
"""Cycles from the first layer's begin until its header has said that the streams begin anew."""

SETUP = 1
"""Cycles from the sequencer to the registers that every cluster has of its own (`hw.cluster`)."""

SCORE_CLEAR = 3
"""Cycles from a layer's begin to its second program word, and until the sequencer notices the end
of clearing (`hw.sequencer`)."""

GATE_STEP = 2
"""Cycles from the end of the gate's choice until the sequencer notices (`hw.core`)."""

DEFAULT_ACTIVITY = 0.25
DEFAULT_INPUT_ACTIVITY = 0.5


@dataclass
class LayerCycles:
    """One layer of the program.

    cycles: program words and engines, as the core's own counter. by_cause, counters: by the names
    in CAUSES and COUNTERS. served: drain that the write arbiter served last.
    """

    name: str
    copy: bool
    cycles: int
    by_cause: dict[str, float]
    counters: dict[str, int]
    served: int = 0


@dataclass
class Cycles:
    """Cycles of one inference on the core (link excluded).

    total: all layers and the sequencer's steps between them. by_layer: cycles by name of the
    layer (copies of a map count for the layer that made it). by_cause: by the names in CAUSES,
    "sequencer" being the steps between layers; the sum is `total`. before: drain that the write
    arbiter served last before this inference, 0 after a reset. settled: cycles at the end until
    nothing is on its way from DRAM.
    """

    config: CoreConfig
    layers: list[LayerCycles] = field(default_factory=list)
    before: int = 0
    settled: int = 0

    @property
    def served(self) -> int:
        """Drain that the write arbiter served last."""
        return self.layers[-1].served if self.layers else self.before

    @property
    def total(self) -> int:
        return sum(layer.cycles + STEP_OVERHEAD for layer in self.layers) + self.settled

    @property
    def by_layer(self) -> dict[str, int]:
        result: dict[str, int] = {}
        for layer in self.layers:
            result[layer.name] = result.get(layer.name, 0) + layer.cycles
        return result

    @property
    def by_cause(self) -> dict[str, float]:
        result = {cause: sum(layer.by_cause[cause] for layer in self.layers) for cause in CAUSES}
        result["sequencer"] = float(STEP_OVERHEAD * len(self.layers) + self.settled)
        return result

    @property
    def counters(self) -> dict[str, int]:
        return {name: sum(layer.counters[name] for layer in self.layers) for name in COUNTERS}

    @property
    def updates_per_cycle(self) -> float:
        return self.counters["updates"] / max(1, self.total)

    @property
    def useful_fraction(self) -> float:
        """Fraction of the accumulate slots (units x cycles) that did an update."""
        return self.updates_per_cycle / self.config.slots

    @property
    def frames_per_s(self) -> float:
        """Inferences a second at the configuration's clock, core alone."""
        return self.config.clock_hz / max(1, self.total)

    def as_dict(self) -> dict:
        return {
            "total": self.total, "by_layer": self.by_layer, "by_cause": self.by_cause,
            "counters": self.counters, "updates_per_cycle": self.updates_per_cycle,
            "useful_fraction": self.useful_fraction, "frames_per_s": self.frames_per_s,
        }


def simulate(image: Image, array: np.ndarray, mask: np.ndarray | None = None,
             before: int = 0, timing: DramTiming | SdramCycles | None = None) -> Cycles:
    """Cycles of one input: uint8 [C, H, W] if the input is static, else [T, C, H, W].

    mask: tokens to keep, bool [N], for a gate that takes them from the host. before: what
    `Cycles.served` was of the inference before: the turns go on, which can be worth a cycle.
    timing: of the DRAM, where weights stream; None: as `timing_of` the core.
    """
    config = image.config
    lanes = np.zeros((config.map_words, config.window), np.uint8)
    array, mask_words = gate_input(image, array, mask)
    for address, words in encode_input(image, array):
        lanes[address:address + len(words)] = words_to_lanes(words)
    gate = machine.GateState.begin(config, mask_words)
    result = Cycles(config, before=before)
    weights = Weights.of(image)
    dram = new_dram(config, weights.streams, timing or timing_of(config))
    for code, info in zip(read_program(image.program, config), image.layers, strict=True):
        places = weights.of_layer(code)
        ends = _append(result, code, info, places, lanes, dram, gate)
        machine.run_layer(code, places, lanes, config, gate)
        weights.used(code, ends)
    return result


def replay(image: Image, spikes: Mapping[str, np.ndarray], *, mask: np.ndarray | None = None,
           skip_silent: bool = True,
           timing: DramTiming | SdramCycles | None = None) -> Cycles:
    """Cycles for given spikes of every map that a layer reads, whatever the weights would make.

    spikes: map name -> uint8 [T, C, H, W] (the input: its values), as
    `sw.integer.reference.Run.spikes`
        for one image. A patch gate chooses by them.
    mask: tokens to keep, bool [N], for a gate that takes them from the host; None spreads them
        evenly (which ones hardly matters for the cycles).
    skip_silent: False for a core that reads silent map words, too (for `sw.study`). timing: see
        `simulate`.
    """
    config = image.config
    lanes = np.zeros((config.map_words, config.window), np.uint8)
    spikes, words = _gated(image, spikes, mask)
    for layout in image.inputs:
        _place(lanes, layout, spikes)
    gate = machine.GateState.begin(config, words)
    result = Cycles(config)
    weights = Weights.of(image)
    dram = new_dram(config, weights.streams, timing or timing_of(config))
    steps = zip(read_program(image.program, config), image.layers, strict=True)
    for index, (code, info) in enumerate(steps):
        places = weights.of_layer(code)
        ends = _append(result, code, info, places, lanes, dram, gate, skip_silent)
        gate.enter(code.header)
        if info.copy:
            machine.run_layer(code, places, lanes, config, gate)
        weights.used(code, ends)
        for layout in image.maps.values():
            if layout.born == index:
                _place(lanes, layout, spikes)
                if code.header["score"]:
                    _score(gate, layout, spikes[layout.name])
    return result


def _gated(image: Image, spikes: Mapping[str, np.ndarray],
           mask: np.ndarray | None) -> tuple[Mapping[str, np.ndarray], np.ndarray | None]:
    """Spikes behind a gate of the input, and the words of the mask that the host writes."""
    gate = image.gate
    if gate is None or INPUT not in spikes:
        return spikes, None
    if gate.mode == "host" and mask is None:
        mask = np.zeros(gate.tokens, bool)
        mask[np.arange(gate.keep) * gate.tokens // gate.keep] = True
    masks = gate.check_masks(None if mask is None else mask[None], 1)
    values = spikes[INPUT][0] if image.static else spikes[INPUT]
    values, words = gate.apply(values, None if masks is None else masks[0], image.static)
    if image.static:
        values = np.broadcast_to(values, spikes[INPUT].shape)
    return {**spikes, INPUT: values}, words


def _score(gate: machine.GateState, layout: MapLayout, spikes: np.ndarray) -> None:
    """Add the spikes uint8 [T, C, H, W] of a map to its tokens' scores."""
    counts = spikes[:, :, :layout.height, :layout.width].sum((0, 1), dtype=np.int64)
    rows, columns = np.indices(counts.shape)
    gate.scores[rows * layout.pitch + columns] += counts


def forecast(image: Image, activity: Mapping[str, object] | None = None, seed: int = 0) -> Cycles:
    """Cycles of a synthetic input.

    activity: map name -> fraction of active (position, group), a number or [planes, C] as of
        `sw.integer.reference.activity`; maps not named get 0.25, an input 0.5 per bit plane.
        Timesteps and positions are independent, so words are hardly ever silent: more cycles than
        real spikes of that activity take, and in attention a quarter fewer.
    """
    activity = dict(activity or {})
    unknown = sorted(set(activity) - {INPUT} - set(image.maps))
    if unknown:
        raise SpikeTicketError(f"activity names unknown maps {unknown}; {image.name!r} has "
                               f"{sorted(image.maps)}")
    rng = np.random.default_rng(seed)
    shapes = {name: (1, layout.channels, layout.height, layout.width)
              for name, layout in image.maps.items()}
    shapes[INPUT] = (image.input_bits, *image.input_shape)
    spikes = {}
    for name, (planes, channels, *size) in shapes.items():
        active = np.asarray(activity.get(
            name, DEFAULT_INPUT_ACTIVITY if name == INPUT else DEFAULT_ACTIVITY), float)
        if active.size and not (0 <= active.min() and active.max() <= 1):
            raise SpikeTicketError(f"activity of map {name!r} is outside 0..1: "
                                   f"{active.min()}..{active.max()}")
        steps = 1 if name == INPUT and image.static else image.timesteps
        chance = synthetic.independent(np.broadcast_to(active, (planes, channels)).ravel(), steps)
        bits = synthetic.draw(rng, chance, steps, tuple(size))
        bits = bits.reshape(steps, planes, channels, *size)
        values = sum(bits[:, plane] << plane for plane in range(planes))
        spikes[name] = np.repeat(values, image.timesteps // steps, axis=0)
    return replay(image, spikes)


def _append(result: Cycles, code: LayerCode, info: LayerInfo, places: Places, lanes: np.ndarray,
            dram: Dram, gate: machine.GateState, skip_silent: bool = True) -> list[int]:
    """Step a layer; returns the ends of its rows."""
    layer, ends = run_layer(code, places, lanes, result.config, dram, result.served, skip_silent,
                            gate.tokens)
    layer.name, layer.copy = info.name, info.copy
    result.layers.append(layer)
    if code.header["last_layer"]:
        result.settled = dram_settles(dram)
    return ends


def _place(lanes: np.ndarray, layout: MapLayout, spikes: Mapping[str, np.ndarray]) -> None:
    """Put the spikes of a map, or the sum that it is added to, at its place in memory."""
    names = (*layout.onto, layout.name)
    for name in names:
        if name not in spikes:
            raise SpikeTicketError(f"no spikes given for map {name!r}")
    values = sum(spikes[name] for name in names)[:, :, :layout.height, :layout.width]
    lanes[layout.base:layout.base + layout.words] = layout.lanes(to_masks(layout, values))


def run_layer(code: LayerCode, places: Places, lanes: np.ndarray, config: CoreConfig, dram: Dram,
              served: int = 0, skip_silent: bool = True,
              tokens: np.ndarray | None = None) -> tuple[LayerCycles, list[int]]:
    """Cycles of one layer on the map memory `lanes`, uint8 [map_words, window] (not changed), and
    the bits behind its rows.

    places: of its weights, see `Weights.of_layer`. dram: goes on. served: drain that the write
        arbiter served last in the layer before. skip_silent: see `replay`. tokens: positions that
        a listed walk visits.
    """
    h = code.header
    arrays, ends = layer_arrays(code, places, lanes, config, skip_silent, tokens)
    # The accumulators are swept meanwhile, a cycle a place.
    loading = max(code.words, 2 * config.acc_depth)
    gate = 0
    if h["score_clear"]:
        gate = max(0, config.gate_tokens // config.lanes + SCORE_CLEAR - loading)
    # The streams run ahead all the time but for the log; before and behind the engines there are
    # two cycles of the sequencer and the one in which the clusters hear of the start, and one.
    dram_cycles(dram, loading + gate + 3, True, RESTART if h["stream_begin"] else -1)
    cycles, causes, counters, served = kernel.run_layer(*arrays, dram, served)
    by_cause = {cause: float(value) / config.slots
                for cause, value in zip(CAUSES, causes, strict=False)}
    if h["gate"]:
        gate = max(0, GATE_STEP - SETUP - int(cycles) + top_k_cycles(
            config.drains, h["positions"], h["strip_words"], host=bool(h["gate_host"])))
    # The run may end with the last cycle of the log.
    dram_cycles(dram, 1 + (gate if h["gate"] else 0), True, -1)
    dram_cycles(dram, LOG - h["last_layer"], False, -1)
    by_cause |= {"program": float(loading + SETUP), "gate": float(gate)}
    return LayerCycles("", False, int(cycles) + loading + SETUP + gate, by_cause,
                       dict(zip(COUNTERS, counters.tolist(), strict=True)), int(served)), ends
