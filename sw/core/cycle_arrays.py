"""A layer's program, weights and spikes as the arrays that `sw.core.cycle_kernel` steps through."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hw import program
from hw.config import (
    DRAIN_MARGIN,
    DRAIN_QUEUE,
    FETCH_QUEUE,
    QUEUE_MARGIN,
    TIMESTEPS_PER_GROUP,
    CoreConfig,
)

from ..compile.listing import LayerCode
from . import attention_items
from .jit import njit
from .steps import inputs
from .weights import Places

MAX_LISTED = 256
"""Tokens of a listed walk whose count is given as 0."""

DRAIN_STAGES = 21
"""Visits in the pipeline from the drain walk to its queue (`hw.drain`, `hw.neuron.LATENCY`)."""

NO_CODES = np.zeros(0, np.int64)


def layer_arrays(code: LayerCode, places: Places, lanes: np.ndarray, config: CoreConfig,
                 skip_silent: bool, tokens: np.ndarray | None) -> tuple[tuple, list[int]]:
    """Arguments of `cycle_kernel.run_layer`, but for the state that it goes on from; see
    `cycles.run_layer`. And the bit behind each engine's rows."""
    h = code.header
    size = inputs.Size(
        config.engines, config.units, config.window, config.queue_depth, QUEUE_MARGIN, FETCH_QUEUE,
        DRAIN_QUEUE, DRAIN_MARGIN, DRAIN_STAGES, skip_silent, config.drains, config.drain_engines)
    layer = inputs.Layer(*(int(h[name]) for name in inputs.Layer._fields))
    fields = [np.array([tap[name] for tap in code.taps], np.int64)
              for name in inputs.Taps._fields[:-1]]
    taps = inputs.Taps(*fields, _allowed(code, config))
    codes, ends_at = _streams(code, places)
    bits = np.uint64(1) << np.arange(config.window, dtype=np.uint64)
    spikes = np.zeros((0, TIMESTEPS_PER_GROUP), np.uint64)
    channels, (steps, item_channel, *passes) = NO_CODES, attention_items.no_items()
    if h["attention"]:
        spikes = np.stack([((lanes >> t & 1) * bits).sum(1, dtype=np.uint64)
                           for t in range(TIMESTEPS_PER_GROUP)], axis=1)
        channels = _channels(code, places)
        steps, item_channel, *passes = attention_items.prepare(spikes, channels, h)
        codes = codes._replace(tap=np.zeros_like(item_channel), channel=item_channel)
    maps = inputs.Maps(((lanes != 0) * bits).sum(1, dtype=np.uint64), spikes,
                       np.array([plane["offset"] for plane in code.planes], np.int64))
    return (size, layer, taps, codes, maps, inputs.Walk(*_walk(h, tokens)),
            inputs.Attention(channels, steps, *passes)), ends_at


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


def _walk(h: Mapping[str, int],
          tokens: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The drain walk of any strip and of the last one: (starts [3], positions, flags)."""
    positions, flags = [], []
    for last in (False, True):
        counts = [h["count_py"], h["count_px"], h["count_oy_last" if last else "count_oy"],
                  h["count_ox"], h["count_ky"], h["count_kx"]]
        if h["listed"]:
            counts[3] = counts[3] or MAX_LISTED
        steps = [h[f"inc_{axis}"] for axis in ("py", "px", "oy", "ox", "ky", "kx")]
        index = np.indices(counts).reshape(6, -1)
        q = np.array(steps) @ index
        if h["listed"]:
            q = tokens[:len(q)]
        if h["pool_overlap"]:
            q = (q - 1) % (1 << program.WALK_BITS)
            q[0] = 0                    # instead of -1, see `hw.walker.Walker`
        ends = [index[n] == counts[n] - 1 for n in range(6)]
        limit = h["positions_last" if last else "positions"]
        window_end = ends[4] & ends[5]

        def inside(q, limit=limit):
            return ((q & h["pitch_mask"]) < h["row_valid"]) & (q < limit)

        visits = inside(q).astype(np.int64) + (inside(q | 1) if h["pair"] else 0)
        if h["pool_max"]:               # A neuron a window.
            window = counts[4] * counts[5]
            visits = np.repeat(visits.reshape(-1, window).any(1), window).astype(np.int64)
        flags.append(inputs.F_WINDOW_END * window_end + inputs.F_ROW_END * ends[3]
                     + inputs.F_PHASE_END * (window_end & ends[2] & ends[3])
                     + inputs.F_LAST * np.logical_and.reduce(ends) + inputs.F_COUNT * visits)
        positions.append(q)
    starts = np.cumsum([0, *map(len, positions)])
    return starts, np.concatenate(positions), np.concatenate(flags)


def _header_bits(code: LayerCode) -> int:
    return code.header["channel_bits"] + 2 * code.header["neuron_bits"]


def _channels(code: LayerCode, places: Places) -> np.ndarray:
    """Output channels of an attention layer's rows, whose streams are headers only."""
    channels, width, bits = [], code.header["channel_bits"], _header_bits(code)
    for (stream, start), place in zip(places, code.engines, strict=True):
        channel = -1
        for row in range(place["rows"]):
            word, bit = divmod(start * 32 + row * bits, 32)
            both = int(stream[word]) | int(stream[min(word + 1, len(stream) - 1)]) << 32
            channel += 1 + (both >> bit & (1 << width) - 1)
            channels.append(channel)
    return np.array(channels, np.int64)


def _streams(code: LayerCode, places: Places) -> tuple[inputs.Codes, list[int]]:
    """All codes of the layer, and the bit behind each engine's last row."""
    channels = np.array([tap["channels"] for tap in code.taps], np.int64)
    row_start, starts, taps, chans, ends = [0], [np.zeros(1, np.int64)], [], [], []
    for (stream, start), place in zip(places, code.engines, strict=True):
        row_start.append(row_start[-1] + place["rows"])
        if code.header["attention"]:
            starts.append(np.zeros(place["rows"], np.int64))
            ends.append(start * 32 + place["rows"] * _header_bits(code))
            continue
        lengths, tap, channel, end = _decode(
            stream, start * 32, place["rows"], channels,
            code.header["rice_k"], code.header["value_bits"], _header_bits(code))
        starts.append(lengths)
        ends.append(end)
        taps.append(tap)
        chans.append(channel)
    return inputs.Codes(
        np.array([start for _, start in places], np.int64), np.array(row_start, np.int64),
        np.cumsum(np.concatenate(starts)), np.concatenate([NO_CODES, *taps]),
        np.concatenate([NO_CODES, *chans])), ends


@njit
def _decode(stream, at, rows, channels, k, width, header_bits):
    """Codes of consecutive rows: (codes per row, tap or -1, channel), and the bit behind them."""
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
    return lengths, taps[:n], chans[:n], at
