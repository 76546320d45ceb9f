"""From a plan to program words and weight streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from operator import le

import numpy as np

from hw import program
from hw.config import WORD_BITS, CoreConfig

from ..integer.network import INPUT, entropy_bits
from . import rice
from .bounds import accumulator_bounds, bits_needed, check_layer
from .dram import Tier, blocks, choose_streamed
from .fit import LayoutError, Memory
from .header import header_fields
from .image import LayerInfo, MapLayout
from .layout import Plan
from .steps import Step
from .taps import Tap, mask_bits, phase_planes

DEFAULT_ACTIVITY = 0.25

Activity = Mapping[str, np.ndarray]
"""Map name -> fraction of active (position, group), [planes, C] as
`sw.integer.reference.activity`."""


_NO_TAP = program.pack_words(program.TAP, {
    program.plain(name): int(name == "channels") for fields in program.TAP for name, _ in fields})
"""A tap that reads nothing."""


def plane_tables(plan: Plan, step: Step) -> list[list[list[tuple[int, int]]]]:
    """(offset, shift) of every plane: [use][group][plane], relative to the use's lowest source."""
    if step.kind == "gate":                 # it reads nothing, but every layer has a plane
        return [[[(0, 0)]] * plan.groups]
    tables = []
    for use in step.uses:
        layouts = [plan.layouts[version] for version in use.versions]
        first = min(layout.base for layout in layouts)
        groups = []
        for group in range(plan.groups):
            entries = []
            for layout, shift in zip(layouts, use.shifts or repeat(0), strict=False):
                for bit in range(layout.planes):
                    start = (layout.base - first + bit * layout.plane_words
                             + layout.copy_of_group[group] * layout.copy_words)
                    entries += [(start + phase * layout.phase_words,
                                 bit * layout.bits_a_mask + shift)
                                for phase in phase_planes(use)]
            groups.append(entries)
        tables.append(groups)
    return tables


def count_planes(plan: Plan, step: Step) -> tuple[int, int]:
    """(n_planes, planes_per_group): groups that read the same planes share their entries."""
    tables = plane_tables(plan, step)
    per_group = sum(len(groups[0]) for groups in tables)
    if all(entries == groups[0] for groups in tables for entries in groups):
        return per_group, 0
    return per_group * plan.groups, per_group


@dataclass(frozen=True, eq=False)
class Stream:
    """Weight stream of a step: codes of all rows before they are dealt to the engines."""

    k: int
    width: int
    codes: list[np.ndarray]         # bits of each output channel, uint8
    neurons: list[tuple[int, int]]  # bias and threshold of each
    survivors: np.ndarray           # stored weights of each output channel
    value_bits: int
    index_bits: int

    @cached_property
    def neuron_bits(self) -> int:
        return rice.neuron_width(value for neuron in self.neurons for value in neuron)

    def words(self, rows: Sequence[int], channel_bits: int) -> np.ndarray:
        """An engine's rows, headers included, as words uint32 [n]."""
        width, bits = self.neuron_bits, []
        for row, gap in zip(rows, rice.channel_gaps(rows), strict=True):
            bits += [rice.header_bits(gap, *self.neurons[row], channel_bits, width),
                     self.codes[row]]
        return rice.to_words(bits)


def make_stream(plan: Plan, step: Step, taps: Sequence[Tap], config: CoreConfig,
                slack: float) -> Stream:
    """Encode all rows. Raises SpikeTicketError.

    k is the largest whose codes need at most `slack` times the fewest bits: a larger k has fewer
    skip bits, and the decoder takes a cycle for each.
    """
    layer = step.layer
    bias, threshold = layer.bias, layer.threshold
    if step.kind in ("synapses", "attention"):
        bias, threshold = check_layer(plan.network, layer, config, step.readout_positions,
                                      plan.bits_a_mask(step))
    neurons = list(zip(bias.tolist(), threshold.tolist(), strict=True))
    if step.kind in ("attention", "gate"):      # rows that are headers only
        return Stream(0, 1, [np.zeros(0, np.uint8)] * len(neurons), neurons,
                      np.zeros(len(neurons), np.int64), 0, 0)
    matrix = np.concatenate([tap.weights for tap in taps], axis=1)
    width = rice.value_width(matrix)
    tried = []
    for k in range(rice.MAX_K + 1):
        counts = padded_channels(taps, k)
        starts = stream_starts(taps, counts)
        rows = [rice.indices(weights, starts) for weights in matrix]
        tried.append((rice.code_bits(rows, sum(counts), width, k), k, rows, sum(counts)))
    fewest = min(bits for bits, *_ in tried)
    bits, k, rows, total = [found for found in tried if found[0] <= slack * fewest][-1]
    encoded = [rice.encode_row(row, weights[weights != 0], total, width, k)
               for row, weights in zip(rows, matrix, strict=True)]
    survivors = np.count_nonzero(matrix, axis=1)
    stored = int(survivors.sum())
    return Stream(k, width, encoded, neurons, survivors, stored * width, bits - stored * width)


def padded_channels(taps: Sequence[Tap], k: int) -> list[int]:
    """`TAP.channels` of every tap: 2^k must not exceed it, so small taps are padded."""
    return [max(tap.channels, 1 << k) for tap in taps]


def stream_starts(taps: Sequence[Tap], counts: Sequence[int]) -> np.ndarray:
    """Stream index of every column of the concatenated tap weights."""
    first = np.cumsum([0, *counts[:-1]])
    return np.concatenate([start + np.arange(tap.channels)
                           for start, tap in zip(first, taps, strict=True)])


def row_work(plan: Plan, step: Step, taps: Sequence[Sequence[Tap]], config: CoreConfig,
             activity: Activity) -> np.ndarray:
    """Estimated cycles of every output channel, float [2, C_out]: on its engine, and on the drain
    of that engine."""
    work = np.zeros((2, step.layer.channels))
    if step.kind == "gate":
        return work
    for use, use_taps in zip(step.uses, taps, strict=True):
        rates = np.concatenate([
            np.repeat(_rates(activity, plan.layouts[version]), use.pool ** 2, axis=0)
            for version in use.versions])                      # [planes, C]
        for tap in use_taps:
            channels = np.arange(tap.channels) * use.weight.shape[1] // tap.channels
            lanes = rates[:, channels] * (tap.active / max(1, tap.words))
            cycles = np.maximum(1, lanes / config.units * 1.3).sum(axis=0) * tap.words
            work[0] += (tap.weights != 0) @ cycles
    for key in step.keys:       # v's channel, then those of k of a head: two cycles a word
        work[0] += np.count_nonzero(step.uses[0].weight[:, :, 0, 0], axis=1) * (
            plan.layouts[key].channel_words * step.strips)
    work[0] += step.visits / config.units       # a read takes a cycle of the unit's accumulators
    work[1] = step.visits / config.lanes + 5 * step.strips
    return work * plan.groups + 4


def _rates(activity: Activity, layout: MapLayout) -> np.ndarray:
    rates = activity.get(layout.name)
    shape = (layout.planes, layout.channels)
    if rates is None:
        return np.full(shape, 0.5 if layout.name == INPUT else DEFAULT_ACTIVITY)
    rates, bits = np.asarray(rates, float), layout.bits_a_mask
    if bits == 1 or rates.ndim < 2:
        return np.broadcast_to(rates, shape)
    # A mask of bit-planes is active where any of them is; they count as independent.
    return 1 - np.multiply.reduceat(1 - rates, range(0, len(rates), bits), axis=0)


def deal_rows(work: np.ndarray, sizes: np.ndarray, used: Sequence[int],
              config: CoreConfig) -> list[list[int]]:
    """Rows of every engine: longest work first, to where it would be done first.

    work: see `row_work`. sizes: bits of each row. used: words already taken in each pair's weight
    memory; of the drains with as many engines, those with most to store get the emptiest pairs.
    """
    bins: list[list[int]] = [[] for _ in range(config.engines)]
    computed, walked, share = [0.0] * config.engines, [0.0] * config.drains, config.drain_engines
    for row in np.argsort(-work.max(0), kind="stable"):
        own, drain = work[:, row].tolist()
        engine = min(range(config.engines), key=lambda n: (
            max(computed[n] + own, walked[n // share] + drain), computed[n], n))
        bins[engine].append(int(row))
        computed[engine] += own
        walked[engine // share] += drain
    engines: list[list[int]] = [[] for _ in range(config.engines)]
    fill = [WORD_BITS * words for words in used]
    groups = [bins[first:first + share] for first in range(0, config.engines, share)]
    free = [n for n, group in enumerate(groups) if len(group) == share]
    for group in sorted(groups, key=lambda group: -sum(int(sizes[rows].sum()) for rows in group)):
        drain = config.drains - 1
        if len(group) == share:
            drain = min(free, key=lambda n: (fill[share * n // 2], n))
            free.remove(drain)
        for n, rows in enumerate(group, share * drain):
            engines[n] = sorted(rows)
            fill[n // 2] += int(sizes[rows].sum())
    return engines


def header_of(plan: Plan, step: Step, taps: Sequence[Tap], stream: Stream, channel_bits: int,
              config: CoreConfig, last: bool) -> dict[str, int]:
    """Fields of `hw.program.HEADER` for a step."""
    n_planes, per_group = count_planes(plan, step)
    return header_fields(plan, step, config) | {
        "n_taps": len(taps), "n_planes": n_planes, "planes_per_group": per_group,
        "rice_k": stream.k, "value_bits": stream.width, "channel_bits": channel_bits,
        "neuron_bits": stream.neuron_bits, "last_layer": int(last)}


def step_words(plan: Plan, step: Step, taps: Sequence[Sequence[Tap]], header: dict[str, int],
               engines: Sequence[tuple[int, int]], config: CoreConfig) -> list[int]:
    """Program words of a step; engines: (start, rows). Raises LayoutError."""
    try:
        words = program.pack_words(program.HEADER, header)
        words += [program.pack(program.ENGINE, {"start": start, "rows": rows})
                  for start, rows in engines]
        tables = plane_tables(plan, step)
        groups = plan.groups if header["planes_per_group"] else 1
        words += [program.pack(program.PLANE, {"offset": offset, "shift": shift})
                  for group in range(groups) for table in tables
                  for offset, shift in table[group]]
        counts = iter(padded_channels([tap for use in taps for tap in use], header["rice_k"]))
        plane_start = 0
        if step.kind == "gate":
            return words + _NO_TAP
        for use, use_taps, table in zip(step.uses, taps, tables, strict=True):
            layouts = [plan.layouts[version] for version in use.versions]
            base = min(layout.base for layout in layouts)
            for tap in use_taps:
                mask = mask_bits(tap.lanes, tap.shift, config.units)
                words += program.pack_words(program.TAP, {
                    "base": base + tap.phase * layouts[0].phase_words,
                    "channel_stride": tap.channel_stride, "word_offset": tap.word_offset,
                    "channels": next(counts), "shift": tap.shift, "extra": tap.extra,
                    "edge": tap.edge, "mask_low": mask & 0xFFFFFFFF, "mask_high": mask >> 32,
                    "plane_start": plane_start, "plane_count": len(table[0]),
                    "channel_words": tap.channel_words})
            plane_start += len(table[0])
    except ValueError as error:
        raise LayoutError(step.layer.name, str(error)) from error
    return words


@dataclass(frozen=True, eq=False)
class Assembly:
    """What the last pass makes: program words, weight words per pair, streams in DRAM per engine
    (none if no weights stream), and what each step took."""

    program: np.ndarray
    weights: tuple[np.ndarray, ...]
    streams: tuple[np.ndarray, ...]
    layers: tuple[LayerInfo, ...]
    memories: tuple[Memory, ...]


@dataclass(frozen=True, eq=False)
class _Dealt:
    """A step's rows, encoded and dealt to the engines. sizes: bits of each row. words: of each
    engine's rows. cycles: estimated, of the busiest engine."""

    step: Step
    uses: Sequence[Sequence[Tap]]
    taps: Sequence[Tap]
    stream: Stream
    engines: list[list[int]]
    channel_bits: int
    sizes: np.ndarray
    words: list[np.ndarray]
    cycles: float


def _deal(plan: Plan, config: CoreConfig, activity: Activity, slack: float) -> list[_Dealt]:
    used = [0] * config.pairs
    dealt = []
    for step, uses in zip(plan.steps, plan.taps, strict=True):
        taps = [tap for use in uses for tap in use]
        stream = make_stream(plan, step, taps, config, slack)
        sizes = np.array([len(bits) + 2 * stream.neuron_bits for bits in stream.codes])
        work = row_work(plan, step, uses, config, activity)
        engines = deal_rows(work, sizes, used, config)
        channel_bits = max((gap.bit_length() for rows in engines
                            for gap in rice.channel_gaps(rows)), default=0)
        words = [stream.words(rows, channel_bits) for rows in engines]
        for engine, block in enumerate(words):
            used[engine // 2] += len(block)
        dealt.append(_Dealt(step, uses, taps, stream, engines, channel_bits, sizes + channel_bits,
                            words,
                            max(float(work[0, rows].sum()) for rows in engines)))
    return dealt


def _streamed(dealt: Sequence[_Dealt], config: CoreConfig, tier: Tier) -> frozenset[int]:
    """Steps whose weights stream."""
    if tier == Tier.ON_CHIP:
        return frozenset()
    free = np.array(config.resident_depths) * (tier != Tier.ALL_STREAM)
    return choose_streamed(
        [one.step.layer.name for one in dealt],
        np.array([[len(words) for words in one.words] for one in dealt]),
        [int(one.sizes.max(initial=0)) for one in dealt],
        [one.cycles for one in dealt], free, config)


def encode(plan: Plan, config: CoreConfig, activity: Activity, slack: float,
           tier: Tier = Tier.ON_CHIP) -> Assembly:
    """Encode, deal and place everything; memories may be overfull (the caller checks).

    slack: see `make_stream`.
    """
    dealt = _deal(plan, config, activity, slack)
    streamed = _streamed(dealt, config, tier)
    depths = config.resident_depths if streamed else config.weight_depths
    words: list[int] = []
    resident: list[list[np.ndarray]] = [[] for _ in range(config.pairs)]
    streams: list[list[np.ndarray]] = [[] for _ in range(config.engines)]
    used, run_to = [0] * config.pairs, [0] * config.engines
    layers = []
    most_taps = most_planes = 0
    for index, one in enumerate(dealt):
        header = header_of(plan, one.step, one.taps, one.stream, one.channel_bits, config,
                           index == len(dealt) - 1)
        header |= {"streamed": int(index in streamed),
                   "stream_begin": int(bool(streamed) and index == 0)}
        places, padding = [], 0
        for engine, (rows, block) in enumerate(zip(one.engines, one.words, strict=True)):
            padding += WORD_BITS * len(block) - int(one.sizes[rows].sum())
            if index in streamed:
                places.append((run_to[engine] % config.weight_stride, len(rows)))
                streams[engine].append(block)
                run_to[engine] += len(block)
            else:
                pair = engine // 2
                places.append((used[pair], len(rows)))
                resident[pair].append(block)
                used[pair] += len(block)
        taps = len(one.taps)
        most_taps, most_planes = max(most_taps, taps), max(most_planes, header["n_planes"])
        if taps <= config.taps and header["n_planes"] <= config.planes \
                and all(map(le, used, depths)) and plan.map_words <= config.map_words:
            words += step_words(plan, one.step, one.uses, header, places, config)
        else:       # refused below; only the size still matters
            words += [0] * (len(program.HEADER) + config.engines + header["n_planes"]
                            + program.TAP_WORDS * taps)
        layers.append(_info(plan, one, header, padding))
    stored = tuple(blocks(_joined(rows), engine, config)
                   for engine, rows in enumerate(streams)) if streamed else ()
    rings = [whole - left for whole, left in zip(config.weight_depths, depths, strict=True)]
    memories = (
        Memory("map memory", plan.map_words, config.map_words, "words"),
        *(Memory(f"weight memory {pair}", used[pair] + rings[pair], depth, "words")
          for pair, depth in enumerate(config.weight_depths)),
        *([Memory("DRAM of an engine", max(map(len, stored), default=0), config.stream_stride,
                  "words")] if config.dram_words else []),
        Memory("program memory", len(words), config.program_words, "words"),
        Memory("tap table", most_taps, config.taps, "entries"),
        Memory("plane table", most_planes, config.planes, "entries"))
    return Assembly(np.array(words, np.uint32), tuple(map(_joined, resident)), stored,
                    tuple(layers), memories)


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.uint32), *parts])


def _info(plan: Plan, dealt: _Dealt, header: dict[str, int], padding: int) -> LayerInfo:
    step, stream = dealt.step, dealt.stream
    bits = 0 if step.kind == "gate" else 2     # a copy adds up one spike
    if step.kind in ("synapses", "attention"):
        bounds = accumulator_bounds(plan.network, step.layer, plan.bits_a_mask(step))
        bits = int(bits_needed(*bounds).max())
    density = step.surviving / step.weights if step.weights else 0.0
    return LayerInfo(
        step.layer.name, step.kind, step.weights, step.surviving, int(stream.survivors.sum()),
        stream.width, stream.k, stream.value_bits, stream.index_bits,
        len(stream.codes) * (header["channel_bits"] + 2 * stream.neuron_bits), padding,
        entropy_bits(density, stream.width) if step.surviving else 0.0, len(dealt.taps),
        header["n_planes"], step.strips, plan.groups, step.pitch, dealt.engines, bits,
        bool(header["streamed"]))
