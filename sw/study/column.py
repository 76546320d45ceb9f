"""Rival 1: event-driven, column-compressed weights, many narrow decoupled units.

An event (channel, position, mask) fetches the list of its channel's surviving weights in this
group of units (all taps, the group's output channels); up to eight entries a cycle pass an 8 x 8
crossbar into the queues of the units that own the outputs. Outputs stay in the units' LUTRAM
(ping-pong, drained behind), so a layer is worked off in tiles of output channels x rows, and the
events a tile can see are scanned again for each. Groups share nothing but the map memory.

Kept generous: no cycle for reading pointers or tables, events come from a list (no scan of
silence), no stall of the map port, drain never in the way of the units.
"""

from __future__ import annotations

import numpy as np

from ..core.jit import njit
from .dataflow import Dataflow, Load, Outcome, deal

UNITS = 8
DEPTH = 32
"""Outputs of a unit per ping-pong bank."""
QUEUE = 16
FETCH = 8
"""Entries of a column fetched per cycle: the crossbar's inputs."""
POINTER_BITS = 11
LANES = 2


@njit
def _tile(event_y, event_x, event_start, entry_start, entry_dy, entry_dx, entry_channel, stride,
          padding, low, high, width, out):
    """Cycles and updates of one tile: output rows low..high - 1. event_start per channel."""
    queues = np.zeros(UNITS, np.int64)
    word = np.zeros(UNITS, np.int64)
    cycles, updates = 0, 0
    for channel in range(len(event_start) - 1):
        begin, end = entry_start[channel], entry_start[channel + 1]
        if begin == end:
            continue
        for e in range(event_start[channel], event_start[channel + 1]):
            at = begin
            while at < end:
                stop = min(at + FETCH, end)
                word[:] = 0
                for i in range(at, stop):
                    y = event_y[e] + padding - entry_dy[i]
                    x = event_x[e] + padding - entry_dx[i]
                    if y % stride or x % stride:
                        continue
                    y //= stride
                    x //= stride
                    if low <= y < high and 0 <= x < width:
                        unit = (entry_channel[i] + (y - low) * width + x) % UNITS
                        word[unit] += 1
                        updates += 1
                at = stop
                while True:
                    cycles += 1
                    room = True
                    for u in range(UNITS):
                        if queues[u] > 0:
                            queues[u] -= 1
                        room = room and queues[u] + word[u] <= QUEUE
                    if room:
                        break
                for u in range(UNITS):
                    queues[u] += word[u]
    out[0] = cycles + queues.max()
    out[1] = updates


class Column(Dataflow):
    name = "event-driven columns"
    key = "column"
    event_lists = True

    def run(self, load: Load, engines: int) -> Outcome:
        """engines: groups of eight units."""
        survivors = np.count_nonzero(load.flat, axis=1)
        groups = deal(survivors, engines)
        height, width = load.height, load.width
        most = max(len(group) for group in groups)
        # A tile holds `channels` outputs channels of a group and `rows` rows of each.
        best = None
        for channels in range(1, most + 1):
            rows = min(height, UNITS * DEPTH // (channels * width))
            if rows:
                cost = -(-most // channels) * sum(
                    self._scanned(load, channels, low, min(low + rows, height))
                    for low in range(0, height, rows))
                if best is None or cost < best[0]:
                    best = cost, channels, rows
        if best is None:                # a row alone is too wide for a tile: split it evenly
            raise ValueError(f"{load.name}: a row of {width} outputs exceeds a tile")
        _, channels, rows = best
        totals = np.zeros(engines)
        updates, bits = 0, 0
        for g, group in enumerate(groups):
            drain = 0.0
            for first in range(0, len(group), channels):
                part = group[first:first + channels]
                bits += self._list_bits(load, part)
                for low in range(0, height, rows):
                    high = min(low + rows, height)
                    cycles = 0
                    for use in load.uses:
                        work = self._work(use, part, low, high, width)
                        cycles += work[0]
                        updates += work[1]
                    totals[g] += max(cycles, drain)
                    drain = len(part) * (high - low) * width / LANES
            totals[g] += drain
        return Outcome(float(totals.max()), updates, bits,
                       {"imbalance": float(totals.max() - totals.mean())})

    @staticmethod
    def _scanned(load: Load, channels: int, low: int, high: int) -> float:
        """Estimated fetch cycles of one tile, to choose the tile's shape."""
        total = 0.0
        for use in load.uses:
            entries = np.count_nonzero(use.weight) * channels / use.weight.shape[0]
            per_event = max(1.0, entries / use.weight.shape[1] / FETCH)
            total += use.active[:, :, use.rows(low, high)].sum() * per_event
        return total

    @staticmethod
    def _work(use, part: list[int], low: int, high: int, width: int) -> np.ndarray:
        rows = use.rows(low, high)
        weight = use.weight[part]                                   # [o, c, dy, dx]
        channel, dy, dx, local = np.nonzero(weight.transpose(1, 2, 3, 0))
        entry_start = np.searchsorted(channel, np.arange(use.weight.shape[1] + 1))
        total = np.zeros(2, np.int64)
        out = np.zeros(2, np.int64)
        for plane in use.active:
            c, y, x = np.nonzero(plane[:, rows])
            event_start = np.searchsorted(c, np.arange(use.weight.shape[1] + 1))
            _tile(y + rows.start, x, event_start, entry_start, dy, dx, local, use.stride,
                  use.padding, low, high, width, out)
            total += out
        return total

    @staticmethod
    def _list_bits(load: Load, part: list[int]) -> int:
        """Lists of fixed-width (gap, value) entries, the best gap width, and a pointer each."""
        total = 0
        for use in load.uses:
            weight = use.weight[part].transpose(1, 2, 3, 0).reshape(use.weight.shape[1], -1)
            gaps = []
            for row in weight:
                at = np.flatnonzero(row)
                gaps.append(np.diff(at, prepend=-1) - 1)
            gap = np.concatenate(gaps)
            bits = [int((gap // (1 << w) + 1).sum()) * (w + use.bits) for w in range(1, 12)]
            total += min(bits) + POINTER_BITS * len(weight)
        return total
