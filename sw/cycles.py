"""Cycle model of the core: how long an image takes, layer by layer and cause by cause.

    cycles = simulate(image, array)          # a real input: exactly what the gateware does
    cycles = forecast(image, activity)       # no input: synthetic spikes of the given activity
    cycles = replay(image, spikes)           # spikes from elsewhere, e.g. of the reference

All step the registers of every engine (`sw.cycle_kernel`), after the cycle contract of
`docs/core.md`. Spikes for `simulate` come from `sw.machine`, the bit-exact software core.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numba import njit

from hw import program
from hw.config import (
    DRAIN_MARGIN,
    DRAIN_QUEUE,
    FETCH_QUEUE,
    QUEUE_MARGIN,
    TIMESTEPS_PER_GROUP,
    CoreConfig,
)

from . import cycle_kernel as kernel
from . import machine
from .compile.listing import LayerCode, read_program
from .errors import SpikeTicketError
from .image import Image, LayerInfo, MapLayout, encode_input, words_to_lanes
from .network import INPUT

CAUSES = ("synapses", "event_scan", "queue_stall", "neuron_update", "port_stall", "weight_decode",
          "imbalance", "program")
"""Where a layer's cycles went. Cycles of the engines are split by what the accumulate units did
(a unit-cycle is 1 / (engines x units) of a cycle):

synapses: updates. event_scan: map words with fewer events than units, weights with only silent
words. queue_stall: another unit's queue was full. neuron_update: waiting for, or giving way to,
the drain; neurons and writes after the last weight. port_stall: the map port was taken by a
write. weight_decode: no weight yet (skip codes, row headers, rewinding). imbalance: the engine was
done, others were not. program: loading the layer's program words."""

COUNTERS = ("words", "weights", "updates", "queue_stall", "port_stall", "starved", "bank_wait",
            "neurons", "written", "codes", "passes", "silent_words")
"""Events: map words fetched, weights applied (per pass), updates, cycles an engine's fetch waited
for a queue, for the map port, for a weight; unit-cycles waiting for a bank; neuron updates, map
words written, codes decoded, passes, and fetched words without an allowed active lane. The
first nine are the gateware's counters too."""

STEP_OVERHEAD = 12
"""Cycles around a layer that its counter does not see: begin, start, the log of ten counters."""

DEFAULT_ACTIVITY = 0.25
DEFAULT_INPUT_ACTIVITY = 0.5


@dataclass
class LayerCycles:
    """One layer of the program.

    cycles: program words and engines, as the core's own counter. by_cause, counters: by the names
    in CAUSES and COUNTERS. served: engine that the write arbiter served last.
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
    "sequencer" being the steps between layers; the sum is `total`.
    """

    config: CoreConfig
    layers: list[LayerCycles] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(layer.cycles + STEP_OVERHEAD for layer in self.layers)

    @property
    def by_layer(self) -> dict[str, int]:
        result: dict[str, int] = {}
        for layer in self.layers:
            result[layer.name] = result.get(layer.name, 0) + layer.cycles
        return result

    @property
    def by_cause(self) -> dict[str, float]:
        result = {cause: sum(layer.by_cause[cause] for layer in self.layers) for cause in CAUSES}
        result["sequencer"] = float(STEP_OVERHEAD * len(self.layers))
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


def simulate(image: Image, array: np.ndarray) -> Cycles:
    """Cycles of one input: uint8 [C, H, W] if the input is static, else [T, C, H, W]."""
    config = image.config
    lanes = np.zeros((config.map_words, config.window), np.uint8)
    for address, words in encode_input(image, array):
        lanes[address:address + len(words)] = words_to_lanes(words)
    result = Cycles(config)
    for code, info in zip(read_program(image.program, config), image.layers, strict=True):
        _append(result, code, info, image, lanes)
        machine.run_layer(code, image.weights, lanes, config)
    return result


def replay(image: Image, spikes: Mapping[str, np.ndarray], *,
           skip_silent: bool = True) -> Cycles:
    """Cycles for given spikes of every map that a layer reads, whatever the weights would make.

    spikes: map name -> uint8 [T, C, H, W] (the input: its values), as `sw.reference.Run.spikes`
        for one image.
    skip_silent: False for a core that reads silent map words, too (for `sw.study`).
    """
    config = image.config
    lanes = np.zeros((config.map_words, config.window), np.uint8)
    for layout in image.inputs:
        _place(lanes, layout, spikes)
    result = Cycles(config)
    steps = zip(read_program(image.program, config), image.layers, strict=True)
    for index, (code, info) in enumerate(steps):
        _append(result, code, info, image, lanes, skip_silent)
        if info.copy:
            machine.run_layer(code, image.weights, lanes, config)
        for layout in image.maps.values():
            if layout.born == index:
                _place(lanes, layout, spikes)
    return result


def forecast(image: Image, activity: Mapping[str, object] | None = None, seed: int = 0) -> Cycles:
    """Cycles of a synthetic input.

    activity: map name -> fraction of active (position, group), a number or [planes, C] as of
        `sw.reference.activity`; maps not named get 0.25, an input 0.5 per bit plane.
    """
    activity = dict(activity or {})
    unknown = sorted(set(activity) - set(image.maps) - {INPUT})
    if unknown:
        raise SpikeTicketError(f"activity names unknown maps {unknown}; {image.name!r} has "
                               f"{sorted(image.maps)}")
    rng = np.random.default_rng(seed)
    shapes = {name: (layout.planes, layout.channels, layout.height, layout.width)
              for name, layout in image.maps.items()}
    shapes[INPUT] = (image.input_bits, *image.input_shape)
    spikes = {}
    for name, (planes, channels, height, width) in shapes.items():
        rate = np.asarray(activity.get(
            name, DEFAULT_INPUT_ACTIVITY if name == INPUT else DEFAULT_ACTIVITY), float)
        if rate.size and not (0 <= rate.min() and rate.max() <= 1):
            raise SpikeTicketError(f"activity of map {name!r} is outside 0..1: "
                                   f"{rate.min()}..{rate.max()}")
        rate = np.broadcast_to(rate, (planes, channels))[:, :, None, None]
        groups = 1 if name == INPUT and image.static else image.groups
        active = rng.random((groups, planes, channels, height, width)) < rate
        values = (active << np.arange(planes)[:, None, None, None]).sum(1).astype(np.uint8)
        repeats = -(-image.timesteps // groups)
        spikes[name] = np.repeat(values, repeats, axis=0)[:image.timesteps]
    return replay(image, spikes)


def _append(result: Cycles, code: LayerCode, info: LayerInfo, image: Image,
            lanes: np.ndarray, skip_silent: bool = True) -> None:
    served = result.layers[-1].served if result.layers else 0
    layer = run_layer(code, image.weights, lanes, image.config, served, skip_silent)
    layer.name, layer.copy = info.name, info.copy
    result.layers.append(layer)


def _place(lanes: np.ndarray, layout: MapLayout, spikes: Mapping[str, np.ndarray]) -> None:
    """Put the spikes of a map at its place in memory."""
    if layout.name not in spikes:
        raise SpikeTicketError(f"no spikes given for map {layout.name!r}")
    values = spikes[layout.name][:, :, :layout.height, :layout.width]
    masks = np.zeros((layout.copies, layout.planes, *values.shape[1:]), np.uint8)
    for group, copy in enumerate(layout.copy_of_group):
        part = values[group * TIMESTEPS_PER_GROUP:(group + 1) * TIMESTEPS_PER_GROUP]
        for bit in range(layout.planes):
            masks[copy, bit] = sum((v >> bit & 1) << t for t, v in enumerate(part))
    lanes[layout.base:layout.base + layout.words] = layout.lanes(masks)


def run_layer(code: LayerCode, weights: list[np.ndarray], lanes: np.ndarray, config: CoreConfig,
              served: int = 0, skip_silent: bool = True) -> LayerCycles:
    """Cycles of one layer on the map memory `lanes`, uint8 [map_words, window] (not changed).

    served: engine that the write arbiter served last in the layer before. skip_silent: see
        `replay`.
    """
    h = code.header
    bits = np.uint64(1) << np.arange(config.window, dtype=np.uint64)
    active = ((lanes != 0) * bits).sum(1, dtype=np.uint64)
    taps = np.array([[tap[field] for field in (
        "base", "channel_stride", "word_offset", "shift", "extra", "edge", "plane_start",
        "plane_count", "channel_words")] for tap in code.taps], np.int64)
    layer = np.array([h[field] for field in (
        "n_groups", "n_strips", "strip_words", "strip_words_last", "row_words_mask",
        "planes_per_group", "pair", "pair_merge", "pool_max", "readout", "flush_strip",
        "out_pitch", "positions", "positions_last")], np.int64)
    size = np.array([config.engines, config.units, config.window, config.queue_depth,
                     QUEUE_MARGIN, DRAIN_STAGES, skip_silent, FETCH_QUEUE, DRAIN_QUEUE,
                     DRAIN_MARGIN], np.int64)
    cycles, causes, counters, served = kernel.run_layer(
        size, layer, taps, _allowed(code, config),
        np.array([plane["offset"] for plane in code.planes], np.int64), active,
        *_streams(code, weights, config), *_walk(h), served)
    slots = config.slots
    by_cause = {cause: float(value) / slots for cause, value in zip(CAUSES, causes, strict=False)}
    # The accumulators are swept meanwhile, a cycle a place.
    loading = max(code.words, 2 * config.acc_depth)
    by_cause["program"] = float(loading)
    return LayerCycles("", False, int(cycles) + loading, by_cause,
                       dict(zip(COUNTERS, counters.tolist(), strict=True)), int(served))


DRAIN_STAGES = 21
"""Visits in the pipeline from the drain walk to its queue (`hw.drain`, `hw.neuron.LATENCY`)."""


def _allowed(code: LayerCode, config: CoreConfig) -> np.ndarray:
    """Lanes that each tap's mask lets through, in lane order; uint64 [n_taps]."""
    units = config.units
    allowed = np.zeros(len(code.taps), np.uint64)
    for n, tap in enumerate(code.taps):
        for m in range(config.subs):
            for u in range(units):
                if tap["mask"] >> (m * units + u) & 1:
                    allowed[n] |= np.uint64(1 << m * units + (u + tap["shift"]) % units)
    return allowed


def _walk(h: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The drain walk of any strip and of the last one: (starts [3], positions, flags)."""
    positions, flags = [], []
    for last in (False, True):
        counts = [h["count_py"], h["count_px"], h["count_oy_last" if last else "count_oy"],
                  h["count_ox"], h["count_ky"], h["count_kx"]]
        steps = [h[f"inc_{axis}"] for axis in ("py", "px", "oy", "ox", "ky", "kx")]
        index = np.indices(counts).reshape(6, -1)
        q = np.array(steps) @ index
        ends = [index[n] == counts[n] - 1 for n in range(6)]
        limit = h["positions_last" if last else "positions"]
        window_end = ends[4] & ends[5]

        def inside(q, limit=limit):
            return ((q & h["pitch_mask"]) < h["row_valid"]) & (q < limit)

        visits = inside(q).astype(np.int64) + (inside(q | 1) if h["pair"] else 0)
        flags.append(kernel.F_WINDOW_END * window_end + kernel.F_ROW_END * ends[3]
                     + kernel.F_PHASE_END * (window_end & ends[2] & ends[3])
                     + kernel.F_LAST * np.logical_and.reduce(ends) + kernel.F_COUNT * visits)
        positions.append(q)
    starts = np.cumsum([0, *map(len, positions)])
    return starts, np.concatenate(positions), np.concatenate(flags)


def _streams(code: LayerCode, weights: list[np.ndarray],
             config: CoreConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All codes of the layer: (row_start, code_start, code_tap, code_channel), -1 for a skip."""
    channels = np.array([tap["channels"] for tap in code.taps], np.int64)
    row_start, starts, taps, chans = [0], [np.zeros(1, np.int64)], [], []
    for engine, place in enumerate(code.engines):
        row_start.append(row_start[-1] + place["rows"])
        lengths, tap, channel = _decode(
            weights[engine // 2], place["start"] * 32, place["rows"], channels,
            code.header["rice_k"], code.header["value_bits"], program.row_header_bits())
        starts.append(lengths)
        taps.append(tap)
        chans.append(channel)
    return (np.array(row_start, np.int64), np.cumsum(np.concatenate(starts)),
            np.concatenate(taps), np.concatenate(chans))


@njit(cache=True)
def _decode(stream, at, rows, channels, k, width, header_bits):
    """Codes of consecutive rows: (codes per row, tap or -1, channel)."""
    taps = np.zeros(1024, np.int64)
    chans = np.zeros(1024, np.int64)
    lengths = np.zeros(rows, np.int64)
    n = 0
    for row in range(rows):
        at += header_bits
        tap, channel, begin = 0, 0, n
        while tap < channels.size:
            if n == taps.size:
                taps = np.concatenate((taps, np.zeros(n, np.int64)))
                chans = np.concatenate((chans, np.zeros(n, np.int64)))
            step = 1 << k
            taps[n] = -1
            if (np.int64(stream[at >> 5]) >> (at & 31)) & 1:
                gap = 0
                for i in range(k):
                    bit = at + 1 + width + i
                    gap |= ((np.int64(stream[bit >> 5]) >> (bit & 31)) & 1) << i
                at += width + k
                channel += gap
                if channel >= channels[tap]:
                    channel -= channels[tap]
                    tap += 1
                taps[n], chans[n] = tap, channel
                step = 1
            at += 1
            n += 1
            channel += step
            if tap < channels.size and channel >= channels[tap]:
                channel -= channels[tap]
                tap += 1
        at += 1                                             # the filler bit
        lengths[row] = n - begin
    return lengths, taps[:n], chans[:n]
