"""Rival 3: row gather over compressed event lists, an outer product of one weight and P events.

As our core, an engine streams one output channel's surviving weights; but instead of map words it
reads the list of the weight's input channel, eight events a cycle, and a crossbar takes them to
the units that own their outputs (position mod 8). Silence costs nothing, yet an event needs its
position, and every list a pointer.

Kept generous: no cycle for pointers, no port conflicts, lists are cut exactly at the strip.
"""

from __future__ import annotations

import numpy as np

from ..core.jit import njit
from .dataflow import Dataflow, Load, Outcome, deal
from .storage import rice_bits

UNITS = 8
QUEUE = 16
STRIP = 128
"""Output positions of a pass: 16 per unit and ping-pong bank."""
LANES = 2
OVERHEAD = 8


@njit
def _row(order, lists, start, queues):
    """Cycles and updates of one row and strip: `order` lists, one after another."""
    cycles, updates = 0, 0
    word = np.zeros(UNITS, np.int64)
    for item in order:
        at, end = start[item], start[item + 1]
        if at == end:
            cycles += 1                     # an empty list still takes its turn
            for u in range(UNITS):
                queues[u] = max(0, queues[u] - 1)
        while at < end:
            stop = min(at + UNITS, end)
            word[:] = 0
            for i in range(at, stop):
                word[lists[i] % UNITS] += 1
            updates += stop - at
            at = stop
            while True:
                cycles += 1
                room = True
                for u in range(UNITS):
                    queues[u] = max(0, queues[u] - 1)
                    room = room and queues[u] + word[u] <= QUEUE
                if room:
                    break
            for u in range(UNITS):
                queues[u] += word[u]
    return cycles, updates


class Events(Dataflow):
    name = "row gather over event lists"
    key = "events"
    event_lists = True

    def run(self, load: Load, engines: int) -> Outcome:
        rows = max(1, STRIP // load.width)
        kept = [np.flatnonzero(row) for row in load.flat]
        groups = deal([len(row) for row in kept], engines)
        totals = np.zeros(engines)
        updates = 0
        previous = np.zeros(engines)
        for low in range(0, load.height, rows):
            high = min(low + rows, load.height)
            lists, start, planes = _lists(load, low, high)
            drain = (high - low) * load.width / LANES
            for e, group in enumerate(groups):
                for row in group:
                    order = (kept[row][:, None] * planes + np.arange(planes)).reshape(-1)
                    cycles, done = _row(order, lists, start, np.zeros(UNITS, np.int64))
                    totals[e] += max(cycles + OVERHEAD, previous[e])
                    previous[e] = drain
                    updates += done
        totals += previous
        bits = rice_bits(load.flat, load.uses[0].bits)
        return Outcome(float(totals.max()), updates, bits,
                       {"imbalance": float(totals.max() - totals.mean())})


def _lists(load: Load, low: int, high: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Output positions (in the strip) of every (weight position, plane): (values, starts, planes).

    Sources with fewer planes get empty ones.
    """
    planes = max(len(use.active) for use in load.uses)
    values, counts = [], []
    for use in load.uses:
        c_in, kh, kw = use.weight.shape[1:]
        padded = use.padded()
        s = use.stride
        parts = np.zeros((c_in, kh, kw, planes), object)
        for dy in range(kh):
            for dx in range(kw):
                seen = padded[:, :, dy + low * s:dy + (high - 1) * s + 1:s,
                              dx:dx + (load.width - 1) * s + 1:s]
                flat = seen.reshape(len(seen), c_in, -1)
                for p in range(planes):
                    for c in range(c_in):
                        parts[c, dy, dx, p] = (np.flatnonzero(flat[p, c]) if p < len(flat)
                                               else np.zeros(0, np.int64))
        ordered = parts.reshape(-1)
        values += list(ordered)
        counts += [len(item) for item in ordered]
    start = np.concatenate([[0], np.cumsum(counts)])
    return np.concatenate([*values, np.zeros(0, np.int64)]).astype(np.int64), start, planes
