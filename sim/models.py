"""Pure-Python models of the units, each written from `docs/core.md`, not from the gateware.

`sw.core.machine` models the whole core; here is what one unit must answer to one input. Values are
Python integers, so nothing overflows by accident. Fields of the layer are those of
`hw.program.HEADER`, as a dict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hw import program
from hw.config import TIMESTEPS_PER_GROUP, CoreConfig
from sw.compile import rice

Layer = Mapping[str, int]

DEFAULT_LAYER = {program.plain(name): 0 for fields in program.HEADER for name, _ in fields} | {
    "n_taps": 1, "n_planes": 1, "value_bits": 4, "neuron_bits": 1, "leak": 256, "n_groups": 1,
    "last_mask": 15, "n_strips": 1, "strip_words": 1, "strip_words_last": 1, "strip_step": 1,
    "out_pitch": 1,
    **{f"count_{name}": 1 for name in ("kx", "ky", "ox", "oy", "oy_last", "px", "py")}}
"""Header fields of a layer that does as little as possible."""


def layer_bits(layer: Layer) -> int:
    """The layer's header words as one integer, as the `layer` ports take it."""
    words = program.pack_words(program.HEADER, layer)
    return sum(word << 32 * index for index, word in enumerate(words))


def stream_masks(layer: Layer) -> int:
    """`hw.layouts.STREAM_MASKS` as one integer, as the `masks` ports take it."""
    widths = (layer["rice_k"], layer["channel_bits"], layer["neuron_bits"] - 1)
    fields = (("gap", 12), ("channel", 12), ("neuron", 23))
    return program.pack(fields, {name: (1 << width) - 1 for (name, _), width
                                 in zip(fields, widths, strict=True)})


def wrap(value: int, bits: int) -> int:
    """Two's complement of so many bits."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


# Accumulate unit


def accumulate(jobs: Sequence[Mapping], config: CoreConfig) -> list[list[int]]:
    """Currents [acc_depth][4] after the jobs (payloads of `hw.layouts.job`) of one pass."""
    acc = [[0] * TIMESTEPS_PER_GROUP for _ in range(config.acc_depth)]
    for job in jobs:
        for m in range(config.subs):
            if job["active"] >> m & 1:
                row = acc[(job["address"] + m) % config.acc_depth]
                for t in range(TIMESTEPS_PER_GROUP):
                    if job["masks"][m] >> t & 1:
                        row[t] = wrap(row[t] + job["weight"], config.acc_bits)
    return acc


# Row decoder


@dataclass
class Row:
    """One row before it is encoded. indices: stream indices of the weights; values: the weights."""

    channel: int
    bias: int
    threshold: int
    indices: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)

    @property
    def header(self) -> dict[str, int]:
        return {"channel": self.channel, "bias": self.bias, "threshold": self.threshold}


def row_widths(rows: Sequence[Row]) -> dict[str, int]:
    """Header fields of a layer: fewest bits that an engine's rows need."""
    gaps = rice.channel_gaps([row.channel for row in rows])
    return {"channel_bits": max((gap.bit_length() for gap in gaps), default=0),
            "neuron_bits": rice.neuron_width(n for row in rows for n in (row.bias, row.threshold))}


def encode_rows(rows: Sequence[Row], layer: Layer, channels: Sequence[int]) -> list[int]:
    """Weight-memory words of an engine's rows; channels: TAP.channels of every tap.

    The rows of an attention layer are headers alone.
    """
    bits = []
    for row, gap in zip(rows, rice.channel_gaps([row.channel for row in rows]), strict=True):
        bits.append(rice.header_bits(gap, row.bias, row.threshold, layer["channel_bits"],
                                     layer["neuron_bits"]))
        if not layer["attention"]:
            bits.append(rice.encode_row(
                np.array(row.indices, np.int64), np.array(row.values, np.int64), sum(channels),
                layer["value_bits"], layer["rice_k"]))
    return [int(word) for word in rice.to_words(bits)]


def passes(rows: Sequence[Row], layer: Layer) -> Iterator[tuple[Row, dict, dict]]:
    """Passes of an engine: the row, its header on the way to the drain, what its items share."""
    for row in rows:
        for strip, group in np.ndindex(layer["n_strips"], layer["n_groups"]):
            last_strip = strip == layer["n_strips"] - 1
            last_group = group == layer["n_groups"] - 1
            yield row, {
                "row": row.header, "first": int(strip == group == 0),
                "last": int(last_strip and last_group), "first_group": int(group == 0),
                "last_group": int(last_group), "last_strip": int(last_strip)}, {
                "end": 0, "strip_word": strip * layer["strip_step"],
                "last_strip": int(last_strip), "group": group}


def decode_rows(rows: Sequence[Row], layer: Layer,
                channels: Sequence[int]) -> tuple[list[dict], list[list[dict]]]:
    """What the decoder must emit: headers and items of every pass, ends included."""
    starts = np.cumsum([0, *channels])
    headers, items = [], []
    for row, header, shared in passes(rows, layer):
        places = [(int(np.searchsorted(starts, i, side="right")) - 1, i) for i in row.indices]
        headers.append(header)
        items.append([shared | {
            "tap": tap, "channel": index - int(starts[tap]), "value": value, "timesteps": 15}
            for (tap, index), value in zip(places, row.values, strict=True)])
    return headers, items


def attend_rows(rows: Sequence[Row], layer: Layer,
                sums: Sequence[Sequence[dict]]) -> tuple[list[dict], list[list[dict]]]:
    """The same for an attention layer; sums: `hw.attention.attention_item`s of every pass."""
    headers, items = [], []
    for (_, header, shared), mine in zip(passes(rows, layer), sums, strict=True):
        headers.append(header)
        items.append([shared | {"tap": 0} | item for item in mine])
    return headers, items


def count_codes(row: Row, layer: Layer, channels: Sequence[int]) -> int:
    """Codes (skips and weights) of one pass over a row, without the filler bit."""
    step, at, codes = 1 << layer["rice_k"], 0, 0
    for index in row.indices:
        codes += (index - at) // step + 1
        at = index + 1
    return codes + -(-(sum(channels) - at) // step)


# Fetch


def fetch_words(item: Mapping, layer: Layer, tap: Mapping, planes: Sequence[Mapping],
                config: CoreConfig) -> list[list[tuple[int, int, int]]]:
    """Words one weight needs: per plane a list of (address, word index j, weight << shift)."""
    words = layer["strip_words_last"] if item["last_strip"] else layer["strip_words"]
    first = item["strip_word"] + tap["word_offset"]
    last = min(first + words - 1 + tap["extra"], tap["channel_words"] - 1)
    base = tap["base"] + item["channel"] * tap["channel_stride"]
    result = []
    for p in range(tap["plane_count"]):
        plane = planes[item["group"] * layer["planes_per_group"] + tap["plane_start"] + p]
        result.append([((base + plane["offset"] + j) % config.map_words, j,
                        item["value"] << plane["shift"])
                       for j in range(max(first, 0), last + 1)])
    return result


def deal_word(lanes: Sequence[int], j: int, weight: int, item: Mapping, layer: Layer,
              tap: Mapping, config: CoreConfig) -> dict[int, dict]:
    """Jobs (`hw.layouts.job`) by unit that one map word causes; lanes: its spike masks.

    Position by position: input lane i is flat position q_in; its output q = q_in - shift belongs
    to unit q mod units, accumulator row (q - start of the strip) / units.
    """
    timesteps = item["timesteps"] if config.attention else 15
    units, subs, window = config.units, config.subs, config.window
    limit = layer["positions_last"] if item["last_strip"] else layer["positions"]
    row_word = j & layer["row_words_mask"]
    masked = {program.EDGE_ALWAYS: True, program.EDGE_FIRST: row_word == 0,
              program.EDGE_LAST: row_word == layer["row_words_mask"]}[tap["edge"]]
    jobs: dict[int, dict] = {}
    for i in range(window):
        q = window * (j - item["strip_word"]) + i - tap["shift"]
        unit, m = q % units, i // units
        allowed = not masked or tap["mask"] >> (m * units + unit) & 1
        job = jobs.setdefault(unit, {
            "masks": [0] * subs, "active": 0, "address": 0, "weight": weight})
        job["masks"][m] = lanes[i] & timesteps
        job["address"] = (q // units - m) % config.acc_depth
        if lanes[i] & timesteps and allowed and 0 <= q < limit:
            job["active"] |= 1 << m
    return {unit: job for unit, job in jobs.items() if job["active"]}


# Neuron


def neuron(currents: Sequence[int], membrane: int, bias: int, threshold: int,
           layer: Layer) -> tuple[int, int]:
    """Four timesteps of one neuron: (spike mask, membrane after them)."""
    mask = 0
    for t, current in enumerate(currents):
        membrane = layer["leak"] * membrane // 256 + current + bias
        if membrane >= threshold:
            mask |= 1 << t
            membrane = membrane - threshold if layer["soft_reset"] else layer["v_reset"]
    return mask, membrane


# Drain


@dataclass
class Visit:
    """One step of the drain walk."""

    position: int
    first: bool
    last: bool
    window_first: bool
    window_last: bool
    row_end: bool
    phase_end: bool
    phase: int
    beyond: bool        # left of the map or above it
    clears: bool        # no later window of the strip visits the position
    output: tuple[int, int]     # row and column of the window in the strip's output


LOOPS = ("py", "px", "oy", "ox", "ky", "kx")
"""Loops of the drain walk, outer to inner."""


def walk(layer: Layer, last_strip: bool, first_strip: bool = True) -> Iterator[Visit]:
    """The drain walk of one pass; a listed one takes its positions from `layer["kept"]`."""
    increments = program.walk_increments(layer)
    counts = [layer[f"count_{name}"] for name in LOOPS]
    if layer["listed"]:
        counts[3] = counts[3] or 256
    if last_strip:
        counts[2] = layer["count_oy_last"]
    overlap = layer["pool_overlap"]
    for at in np.ndindex(*counts):
        start = [n == 0 for n in at]
        end = [n == count - 1 for n, count in zip(at, counts, strict=True)]
        *_, first_oy, first_ox, first_ky, first_kx = start
        *_, last_oy, last_ox, last_ky, last_kx = end
        yield Visit(
            position=layer["kept"][at[3]] if layer["listed"] else -overlap + sum(
                n * increments[f"inc_{name}"] for n, name in zip(at, LOOPS, strict=True)),
            first=not any(at), last=all(end), window_first=not any(at[4:]),
            window_last=all(end[4:]), row_end=end[3], phase_end=all(end[2:]),
            phase=at[0] * layer["count_px"] + at[1],
            beyond=bool(overlap and ((first_kx and first_ox)
                                     or (first_strip and first_ky and first_oy))),
            # The last column and row of a window are the next one's first.
            clears=not overlap or ((not last_kx or last_ox) and (not last_ky or last_oy)
                                   and not (first_kx and first_ox)),
            output=(at[2], at[3]))


def valid_positions(layer: Layer, visit: Visit, last_strip: bool) -> list[int | None]:
    """The visit's one or two accumulator positions; None where there is no output."""
    limit = layer["positions_last"] if last_strip else layer["positions"]
    pair = [visit.position, visit.position + 1] if layer["pair"] else [visit.position]
    return [q if q & layer["pitch_mask"] < layer["row_valid"] and q < limit and not visit.beyond
            else None for q in pair]


class RowDrain:
    """Drains the passes of one row after another and collects the map words they become.

    words: (address, spike masks of the lanes), in the order in which they are finished.
    scores: by flat position of the output, in a layer with `score`.
    """

    def __init__(self, layer: Layer, config: CoreConfig):
        self.layer, self.config = layer, config
        self.words: list[tuple[int, list[int]]] = []
        self.scores: Counter[int] = Counter()
        self._lanes: list[int] = []
        self._row_lanes = 0
        self._index = self._strip = self._group = 0
        self._membranes: dict[int, int] = {}
        self._total = 0

    def drain(self, header: Mapping, acc: Sequence[Sequence[int]]) -> None:
        """One pass; header as `hw.layouts.pass_header`; acc: currents [positions][4]."""
        layer, row = self.layer, header["row"]
        self._group = 0 if header["first_group"] else self._group + 1
        if header["first"]:
            self._strip, self._total = 0, row["threshold"]
            self._lanes, self._index = [], 0
        elif header["first_group"]:
            self._strip += 1
        base = layer["out_base"] + row["channel"] * layer["out_channel_stride"]
        if layer["readout"]:
            self._sum(header, acc, base)
            return
        slot = 0
        pooled: list[list[list[int]]] = [[], []]
        spikes = [0, 0]
        for visit in walk(layer, header["last_strip"], self._strip == 0):
            if visit.window_first:
                pooled, spikes = [[], []], [0, 0]
            here = valid_positions(layer, visit, header["last_strip"])
            for n, q in enumerate(here):
                output = 0 if layer["pair_merge"] else n
                if q is None:
                    continue
                if layer["pool_max"]:
                    pooled[output].append(acc[q])
                else:
                    spikes[output] |= self._fire((slot, n), acc[q], header)
            if layer["pool_max"] and visit.window_last and pooled[0]:
                largest = [max(step) for step in zip(*pooled[0], strict=True)]
                spikes[0] = self._fire((slot, 0), largest, header)
            if visit.window_last or not layer["pool_max"]:
                slot += 1
            if not visit.window_last:
                continue
            outputs = 2 if layer["pair"] and not layer["pair_merge"] else 1
            mask = layer["last_mask"] if header["last_group"] else 15
            spikes = [s & mask for s in spikes[:outputs]]
            self._lanes += spikes
            self._row_lanes += outputs
            if layer["score"]:
                row, column = visit.output
                row += self._strip * layer["count_oy"]
                for n, s in enumerate(spikes, row * layer["out_pitch"] + column * outputs):
                    self.scores[n] += s.bit_count()
            if visit.row_end:
                # A row may be longer than a map word, whose lanes are already gone.
                self._lanes += [0] * (-self._row_lanes % layer["out_pitch"])
                self._row_lanes = 0
            offset = 0
            if layer["flush_strip"]:
                offset = (visit.phase * layer["out_phase_stride"]
                          + self._group * layer["out_group_stride"]
                          + self._strip * layer["strip_out_words"])
            ends = visit.phase_end and (layer["flush_strip"] or header["last_strip"])
            self._finish(base + offset, ends)

    def _fire(self, slot: tuple[int, int], currents: Sequence[int], header: Mapping) -> int:
        before = self.layer["v_reset"] if header["first_group"] else self._membranes[slot]
        if self.layer["bit_planes"]:
            currents = [sum(c << place for place, c in enumerate(currents))] * TIMESTEPS_PER_GROUP
        mask, self._membranes[slot] = neuron(
            currents, before, header["row"]["bias"], header["row"]["threshold"], self.layer)
        return mask

    def _finish(self, base: int, everything: bool) -> None:
        window = self.config.window
        while len(self._lanes) >= window or (everything and self._lanes):
            lanes = self._lanes[:window] + [0] * (window - len(self._lanes))
            self.words.append(((base + self._index) % self.config.map_words, lanes))
            self._lanes = self._lanes[window:]
            self._index += 1
        if everything:
            self._index = 0

    def _sum(self, header: Mapping, acc: Sequence[Sequence[int]], base: int) -> None:
        for visit in walk(self.layer, header["last_strip"]):
            for q in valid_positions(self.layer, visit, header["last_strip"]):
                if q is not None:
                    self._total += sum(acc[q])
        if header["last"]:
            bits = self._total & 0xFFFFFFFF
            lanes = [bits >> 4 * n & 15 if n < 8 else None for n in range(self.config.window)]
            self.words.append((base % self.config.map_words, lanes))
