"""Rival 2: position-parallel lanes that share a weight stream and skip silent rows.

An engine holds the currents of P consecutive output positions of one output channel, T timesteps
each, in flip-flops. For each surviving weight it reads the P input masks at the tap's shift and
all lanes with a spike add; a window without any spike in reach costs no cycle. The weight stream
is ours (Rice code, no pointers). At the end of a tile the currents move to a shift-out chain,
drained behind the next tile.

Kept generous: skipping is free and unlimited, unaligned windows are read in one cycle, decoding
never stalls, no port conflicts.
"""

from __future__ import annotations

import numpy as np

from .dataflow import Dataflow, Load, Outcome, Source, deal
from .storage import rice_bits

LANES = 2
OVERHEAD = 4
"""Cycles per row and tile: row header and change of tile."""


class Position(Dataflow):
    def __init__(self, positions: int):
        self.positions = positions
        self.name = f"position-parallel, {positions} wide"
        self.key = f"position{positions}"

    def run(self, load: Load, engines: int) -> Outcome:
        events = [_by_tile(use, load, self.positions) for use in load.uses]
        events = np.concatenate(events)                         # [weights of a row, planes, tiles]
        kept = (load.flat != 0).astype(np.float64)
        work = kept @ (events > 0).sum(1)                       # cycles [C_out, tiles]
        updates = int((kept @ events.sum(1)).sum())
        tiles = work.shape[1]
        drain = -(-load.height * load.width // tiles) / LANES
        rows = deal(work.sum(1), engines)
        totals = np.zeros(engines)
        for e, group in enumerate(rows):
            passes = work[group].reshape(-1) + OVERHEAD
            totals[e] = np.maximum(passes[1:], drain).sum() + passes[:1].sum() + drain
        bits = rice_bits(load.flat, load.uses[0].bits)
        return Outcome(float(totals.max()), updates, bits,
                       {"imbalance": float(totals.max() - totals.mean())})


def _by_tile(use: Source, load: Load, positions: int) -> np.ndarray:
    """Active lanes of every weight position and tile: [C_in * kh * kw, planes, tiles].

    Tiles are whole output rows where several fit, else equal parts of a row.
    """
    c_in, kh, kw = use.weight.shape[1:]
    padded = use.padded()
    s = use.stride
    rows = max(1, positions // load.width)
    parts = -(-load.width // positions)
    tiles = -(-load.height // rows) * parts
    result = np.zeros((c_in, kh, kw, len(use.active), tiles))
    for dy in range(kh):
        for dx in range(kw):
            seen = padded[:, :, dy:dy + (load.height - 1) * s + 1:s,
                          dx:dx + (load.width - 1) * s + 1:s]
            for tile in range(tiles):
                y, part = divmod(tile, parts)
                x = slice(part * load.width // parts, (part + 1) * load.width // parts)
                count = seen[:, :, y * rows:(y + 1) * rows, x].sum(axis=(2, 3))
                result[:, dy, dx, :, tile] = count.T
    return result.reshape(c_in * kh * kw, len(use.active), tiles)
