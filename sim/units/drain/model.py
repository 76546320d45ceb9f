"""What the drain must answer: plain Python from `docs/core.md`, not from the gateware."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hw import program
from hw.config import TIMESTEPS_PER_GROUP, CoreConfig
from sim.units.layers import Layer
from sim.units.neuron.model import neuron


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
