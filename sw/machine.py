"""A bit-exact software model of the core: executes a program as docs/core.md says.

It knows formats, not networks: program words, weight streams and map words go in, map words come
out, in the order in which each engine writes them. Compiler tests compare it with the reference;
RTL tests compare the core with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numba
import numpy as np

from hw import program
from hw.config import CoreConfig

from .compile.listing import LayerCode, read_program
from .image import Image, decode_logits, decode_map, encode_input, lanes_to_words, words_to_lanes

COUNTERS = ("codes", "weights", "words", "empty_ranges", "jobs", "updates", "visits", "writes")
"""Counted per engine: codes decoded; weights among them; map words fetched; planes whose range
was empty; jobs put into unit queues; updates (active lanes); drain steps; words written."""

_TAP = ("base", "channel_stride", "word_offset", "channels", "shift", "extra", "edge", "mask",
        "plane_start", "plane_count", "channel_words")
_HEADER = (*(program.plain(name) for fields in program.HEADER for name, _ in fields),
           *(f"inc_{name}" for name in ("kx", "ky", "ox", "oy", "px", "py")))
_H = {name: index for index, name in enumerate(_HEADER)}


@dataclass
class LayerTrace:
    """What one layer did.

    writes: per engine (addresses int64 [n], lanes uint8 [n, window]) in order.
    counters: per engine, by the names in COUNTERS. unit_updates: int64 [engines, units].
    """

    writes: list[tuple[np.ndarray, np.ndarray]]
    counters: list[dict[str, int]]
    unit_updates: np.ndarray


@dataclass
class Result:
    """Result of a run.

    memory: map memory after the run, bytes uint8 [map_words, window / 2].
    maps: map name -> spikes uint8 [T, C, H, W], read as soon as its layer was done (`run` only).
    """

    memory: np.ndarray
    layers: list[LayerTrace] = field(default_factory=list)
    maps: dict[str, np.ndarray] = field(default_factory=dict)

    def total(self, counter: str) -> int:
        return sum(engine[counter] for layer in self.layers for engine in layer.counters)


def run(image: Image, array: np.ndarray, memory: np.ndarray | None = None) -> Result:
    """Load one input (see `sw.image.encode_input`) and run the image's program.

    memory: initial map memory, bytes uint8 [map_words, window / 2]; None: random words, so that
    anything read without having been written shows.
    """
    config = image.config
    shape = (config.map_words, config.window // 2)
    if memory is None:
        memory = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    memory = memory.copy()
    for address, words in encode_input(image, array):
        memory[address:address + len(words)] = words

    result = Result(memory)

    def read_maps(layer: int, lanes: np.ndarray) -> None:
        born = [name for name, layout in image.maps.items() if layout.born == layer]
        for name in born:
            result.maps[name] = decode_map(image, lanes_to_words(lanes), name)

    read_maps(-1, words_to_lanes(memory))
    done = execute(image.program, image.weights, memory, config, read_maps)
    result.memory, result.layers = done.memory, done.layers
    return result


def logits(image: Image, result: Result) -> np.ndarray:
    """Logits int64 [classes] after a run."""
    return decode_logits(image, result.memory)


def execute(program_words: np.ndarray, weights: list[np.ndarray], memory: np.ndarray,
            config: CoreConfig,
            after: Callable[[int, np.ndarray], None] | None = None) -> Result:
    """Run a program on the map memory (bytes uint8 [map_words, window / 2]).

    after: called with the layer's index and the lanes after every layer.
    """
    lanes = words_to_lanes(memory)
    result = Result(memory)
    for index, code in enumerate(read_program(program_words, config)):
        result.layers.append(run_layer(code, weights, lanes, config))
        if after is not None:
            after(index, lanes)
    result.memory = lanes_to_words(lanes)
    return result


def run_layer(code: LayerCode, weights: list[np.ndarray], lanes: np.ndarray,
              config: CoreConfig) -> LayerTrace:
    """Run one layer on lanes uint8 [map_words, window], in place."""
    header = np.array([code.header[name] for name in _HEADER], np.int64)
    # a mask of 64 lanes is meant as bits, not as a number
    taps = np.array([[tap[name] - (1 << 64 if tap[name] >> 63 == 1 else 0) for name in _TAP]
                     for tap in code.taps], np.int64)
    planes = np.array([[p["offset"], p["shift"]] for p in code.planes], np.int64).reshape(-1, 2)
    trace = LayerTrace([], [], np.zeros((config.engines, config.units), np.int64))
    for engine, place in enumerate(code.engines):
        capacity = max(1, place["rows"] * _words_per_row(code, config))
        addresses = np.zeros(capacity, np.int64)
        written = np.zeros((capacity, config.window), np.uint8)
        counters = np.zeros(len(COUNTERS), np.int64)
        problem = _engine(lanes, weights[engine // 2], place["start"], place["rows"], header, taps,
                          planes, config.units, config.window, config.tile_words, addresses,
                          written, counters, trace.unit_updates[engine])
        if problem:
            raise RuntimeError(f"engine {engine}: {_PROBLEMS[problem]}")
        count = counters[COUNTERS.index("writes")]
        trace.writes.append((addresses[:count], written[:count]))
        trace.counters.append(dict(zip(COUNTERS, counters.tolist(), strict=True)))
    for addresses, written in trace.writes:         # outputs never overlap a layer's sources
        lanes[addresses] = written
    return trace


def _words_per_row(code: LayerCode, config: CoreConfig) -> int:
    h = code.header
    rows = max(h["count_oy"], h["count_oy_last"]) * h["count_px"] * h["count_py"]
    return 1 + h["n_strips"] * h["n_groups"] * (
        rows * (max(h["out_pitch"], 2 * h["count_ox"]) // config.window + 2))


_PROBLEMS = {1: "tap address outside the map memory", 2: "a weight past the last tap",
             3: "accumulator address outside the strip", 4: "too many words written",
             5: "drain position outside the strip"}
_LEAK, _VRESET = _H["leak"], _H["v_reset"]
(_NTAPS, _RICE, _BITS, _READOUT, _SOFT, _MAX, _PAIR, _MERGE, _FLUSH, _GROUPS, _LASTMASK,
 _ROWWORDS, _PPG, _STRIPS, _SW, _SWL, _POS, _POSL, _PITCHMASK, _ROWVALID, _OUTPITCH, _CKX, _CKY,
 _COX, _COY, _COYL, _CPX, _CPY, _IKX, _IKY, _IOX, _IOY, _IPX, _IPY, _OBASE, _OCH, _OGR, _OPH,
 _OSTRIP) = (_H[name] for name in (
     "n_taps", "rice_k", "value_bits", "readout", "soft_reset", "pool_max", "pair", "pair_merge",
     "flush_strip", "n_groups", "last_mask", "row_words_mask", "planes_per_group", "n_strips",
     "strip_words", "strip_words_last", "positions", "positions_last", "pitch_mask", "row_valid",
     "out_pitch", "count_kx", "count_ky", "count_ox", "count_oy", "count_oy_last", "count_px",
     "count_py", "inc_kx", "inc_ky", "inc_ox", "inc_oy", "inc_px", "inc_py", "out_base",
     "out_channel_stride", "out_group_stride", "out_phase_stride", "strip_out_words"))


@numba.njit(cache=True)
def _bits(stream, at, count):
    value = 0
    for n in range(count):
        bit = at + n
        value |= ((np.int64(stream[bit >> 5]) >> (bit & 31)) & 1) << n
    return value


@numba.njit(cache=True)
def _signed(value, width):
    return value - (1 << width) if value >> (width - 1) else value


@numba.njit(cache=True)
def _pass(lanes, stream, at, h, taps, planes, units, window, group, tf, nw, positions, acc,
          counters, unit_updates):
    """One pass over a row's codes; returns (next bit, problem)."""
    n_taps, k, width = h[_NTAPS], h[_RICE], h[_BITS]
    subs = window // units
    tap, channel = 0, 0
    while tap < n_taps:
        counters[0] += 1
        bit = _bits(stream, at, 1)
        at += 1
        step = 1 << k
        if bit:
            raw = _bits(stream, at, width)
            value = (1 - 2 * raw) if width == 1 else _signed(raw, width)
            skip = _bits(stream, at + width, k)
            at += width + k
            channel += skip
            if channel >= taps[tap, 3]:
                channel -= taps[tap, 3]
                tap += 1
            if tap >= n_taps:
                return at, 2
            counters[1] += 1
            shift, mask, edge = taps[tap, 4], taps[tap, 7], taps[tap, 6]
            first = tf + taps[tap, 2]
            last = min(first + nw - 1 + taps[tap, 5], taps[tap, 10] - 1)
            first = max(first, 0)
            base = taps[tap, 0] + channel * taps[tap, 1]
            for p in range(taps[tap, 9]):
                entry = group * h[_PPG] + taps[tap, 8] + p
                offset, scaled = planes[entry, 0], value << planes[entry, 1]
                if last < first:
                    counters[3] += 1
                for j in range(first, last + 1):
                    address = base + offset + j
                    if address < 0 or address >= lanes.shape[0]:
                        return at, 1
                    if lanes[address].any():                # silent words are not read
                        counters[2] += 1
                    row_word = j & h[_ROWWORDS]
                    masked = edge == 0 or (edge == 1 and row_word == 0) or (
                        edge == 2 and row_word == h[_ROWWORDS])
                    for u in range(units):
                        any_active = False
                        source = (u + shift) % units
                        wrap = 1 if u + shift % units >= units else 0
                        for m in range(subs):
                            spikes = lanes[address, m * units + source]
                            allowed = not masked or (mask >> (m * units + u)) & 1
                            a = subs * (j - tf) + m - shift // units - wrap
                            if (spikes == 0 or not allowed or a < 0
                                    or a * units + u >= positions):
                                continue
                            if a * units + u >= acc.shape[0]:
                                return at, 3
                            any_active = True
                            unit_updates[u] += 1
                            counters[5] += 1
                            for t in range(4):
                                if spikes >> t & 1:
                                    acc[a * units + u, t] += scaled
                        if any_active:
                            counters[4] += 1
            step = 1
        channel += step
        if channel >= taps[tap, 3]:
            channel -= taps[tap, 3]
            tap += 1
    return at + 1, 0                                        # behind the row's filler bit


@numba.njit(cache=True)
def _fire(h, current, v, bias, threshold):
    """Four timesteps of one neuron: (spike mask, membrane after them)."""
    mask = 0
    for t in range(4):
        v = ((h[_LEAK] * v) >> 8) + current[t] + bias
        if v >= threshold:
            mask |= 1 << t
            v = v - threshold if h[_SOFT] else h[_VRESET]
    return mask, v


@numba.njit(cache=True)
def _emit(packer, word, mask, addresses, written, counters, window, address):
    """Put one mask into the word being packed; packer = [fill, index, positions]."""
    word[packer[0]] = mask
    packer[0] += 1
    packer[2] += 1
    if packer[0] == window:
        _flush(packer, word, addresses, written, counters, address)


@numba.njit(cache=True)
def _flush(packer, word, addresses, written, counters, address):
    n = counters[7]
    if n < addresses.shape[0]:
        addresses[n] = address + packer[1]
        written[n] = word
    counters[7] += 1
    word[:] = 0
    packer[0] = 0
    packer[1] += 1


@numba.njit(cache=True)
def _drain(h, strip, group, acc, membranes, bias, threshold, channel, packer, word, addresses,
           written, counters, window):
    """Walk one pass's accumulators; returns a problem number."""
    last_strip, last_group = strip == h[_STRIPS] - 1, group == h[_GROUPS] - 1
    positions = h[_POSL] if last_strip else h[_POS]
    count_oy = h[_COYL] if last_strip else h[_COY]
    width = 2 if h[_PAIR] else 1
    outputs = 2 if h[_PAIR] and not h[_MERGE] else 1
    slot = 0
    current = np.zeros(4, np.int64)
    for py in range(h[_CPY]):
        for px in range(h[_CPX]):
            address = h[_OBASE] + channel * h[_OCH]
            if h[_FLUSH]:
                address += ((py * h[_CPX] + px) * h[_OPH] + group * h[_OGR] + strip * h[_OSTRIP])
                packer[:] = 0
                word[:] = 0
            for oy in range(count_oy):
                for ox in range(h[_COX]):
                    masks = np.zeros(2, np.uint8)
                    found = np.zeros(2, np.bool_)
                    best = np.zeros((2, 4), np.int64)
                    for ky in range(h[_CKY]):
                        for kx in range(h[_CKX]):
                            counters[6] += 1
                            for lane in range(width):
                                q = (py * h[_IPY] + px * h[_IPX] + oy * h[_IOY] + ox * h[_IOX]
                                     + ky * h[_IKY] + kx * h[_IKX] + lane)
                                valid = (q & h[_PITCHMASK]) < h[_ROWVALID] and q < positions
                                out = lane if outputs == 2 else 0
                                if valid:
                                    if q >= acc.shape[0]:
                                        return 5
                                    if h[_MAX]:
                                        for t in range(4):
                                            if not found[out] or acc[q, t] > best[out, t]:
                                                best[out, t] = acc[q, t]
                                        found[out] = True
                                    else:
                                        current[:] = acc[q]
                                        v = membranes[slot]
                                        fired, v = _fire(h, current, v, bias, threshold)
                                        membranes[slot] = v
                                        masks[out] |= fired
                                if not h[_MAX]:
                                    slot += 1
                    if h[_MAX]:
                        for out in range(outputs):
                            if found[out]:
                                fired, v = _fire(h, best[out], membranes[slot], bias, threshold)
                                membranes[slot] = v
                                masks[out] = fired
                            slot += 1
                    for out in range(outputs):
                        mask = masks[out] & h[_LASTMASK] if last_group else masks[out]
                        _emit(packer, word, mask, addresses, written, counters, window, address)
                while packer[2] % h[_OUTPITCH]:
                    _emit(packer, word, 0, addresses, written, counters, window, address)
            if packer[0] and (h[_FLUSH] or last_strip):
                _flush(packer, word, addresses, written, counters, address)
    return 0


@numba.njit(cache=True)
def _sum_valid(h, strip, acc):
    """Sum over valid positions and timesteps of a readout pass."""
    last_strip = strip == h[_STRIPS] - 1
    positions = h[_POSL] if last_strip else h[_POS]
    count_oy = h[_COYL] if last_strip else h[_COY]
    total, visits = 0, 0
    for oy in range(count_oy):
        for ox in range(h[_COX]):
            visits += 1
            for lane in range(2 if h[_PAIR] else 1):
                q = oy * h[_IOY] + ox * h[_IOX] + lane
                if (q & h[_PITCHMASK]) < h[_ROWVALID] and q < positions:
                    for t in range(4):
                        total += acc[q, t]
    return total, visits


@numba.njit(cache=True)
def _engine(lanes, stream, start, rows, h, taps, planes, units, window, tile_words, addresses,
            written, counters, unit_updates):
    at = np.int64(start) * 32
    acc = np.zeros((tile_words * window, 4), np.int64)
    membranes = np.zeros(2 * tile_words * window, np.int64)
    word = np.zeros(window, np.uint8)
    packer = np.zeros(3, np.int64)
    for _ in range(rows):
        channel = _bits(stream, at, 12)
        bias = _signed(_bits(stream, at + 12, 18), 18)
        threshold = _signed(_bits(stream, at + 30, 24), 24)
        codes = at + 54
        total = threshold
        packer[:] = 0
        word[:] = 0
        for strip in range(h[_STRIPS]):
            last_strip = strip == h[_STRIPS] - 1
            nw = h[_SWL] if last_strip else h[_SW]
            positions = h[_POSL] if last_strip else h[_POS]
            membranes[:] = h[_VRESET]
            for group in range(h[_GROUPS]):
                acc[:] = 0
                at, problem = _pass(lanes, stream, codes, h, taps, planes, units, window, group,
                                    h[_SW] * strip, nw, positions, acc, counters,
                                    unit_updates)
                if problem:
                    return problem
                if h[_READOUT]:
                    part, visits = _sum_valid(h, strip, acc)
                    total += part
                    counters[6] += visits
                else:
                    problem = _drain(h, strip, group, acc, membranes, bias, threshold, channel,
                                     packer, word, addresses, written, counters, window)
                    if problem:
                        return problem
        if h[_READOUT]:
            for n in range(min(8, window)):
                word[n] = (total >> 4 * n) & 15
            _flush(packer, word, addresses, written, counters,
                   h[_OBASE] + channel * h[_OCH])
        if counters[7] > addresses.shape[0]:
            return 4
    return 0
