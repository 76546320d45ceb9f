"""Pruning by what is lost per cycle.

Of every layer the weights that are worth least per cycle, and the least whole output channel, are
candidates. What one is worth is its share of the squares of the layer's weights, as in
`masks.lamp`, so that no layer is emptied because its weights are small or its cycles many; what it
saves, by the estimate of `sw.tickets.cost`. The candidate of the least worth per cycle goes, until
the estimate is low enough. Where a layer waits for its neurons, weights save little and channels
go.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

PARTS = 256
"""Of a layer's surviving weights so many-th go at once, at least one."""


class PrunedLayer:
    """A connection: weight, mask (which is copied) and cost, a weight's cycles, broadcast over its
    first two axes; neurons: cycles for those of an output channel; removable: channels may go."""

    def __init__(self, name: str, weight: np.ndarray, mask: np.ndarray, cost: np.ndarray,
                 neurons: float, removable: bool):
        self.name, self.mask, self.neurons, self.removable = name, mask.copy(), neurons, removable
        self.squares = np.square(weight.astype(np.float64)) * mask
        self.cost = np.broadcast_to(cost.reshape(*cost.shape, *[1] * (weight.ndim - 2)),
                                    weight.shape)
        worth = np.divide(self.squares, self.cost, out=np.full(weight.shape, np.inf),
                          where=self.cost > 0)
        order = np.argsort(worth, axis=None, kind="stable")
        self._order = order[mask.reshape(-1)[order]]
        self._update()

    def _update(self) -> None:
        """What the mask says now, and the best candidate: (worth per cycle, flat places)."""
        rows = self.mask.reshape(len(self.mask), -1).any(1)
        self.synapses = float((self.cost * self.mask).sum())
        self.drain = self.neurons * (int(rows.sum()) if self.removable else len(rows))
        self.cycles = math.hypot(self.synapses, self.drain)
        self._order = self._order[self.mask.reshape(-1)[self._order]]
        total = max(float((self.squares * self.mask).sum()), np.finfo(np.float64).tiny)
        candidates = []
        if len(self._order) > 1:
            least = self._order[:max(1, len(self._order) // PARTS)]
            spent = float(self.cost.reshape(-1)[least].sum())
            saved = self.cycles - math.hypot(self.synapses - spent, self.drain)
            candidates.append((float(self.squares.reshape(-1)[least].sum()), saved, least))
        if self.removable and rows.sum() > 1:
            kept = self.squares.reshape(len(rows), -1).sum(
                1, where=self.mask.reshape(len(rows), -1))
            row = int(np.where(rows, kept, np.inf).argmin())
            places = np.arange(self.mask.size).reshape(len(rows), -1)[row]
            spent = float((self.cost[row] * self.mask[row]).sum())
            saved = self.cycles - math.hypot(self.synapses - spent, self.drain - self.neurons)
            candidates.append((float(kept[row]), saved, places))
        self.best = min(((worth / total / saved, places) for worth, saved, places in candidates
                         if saved > 1e-9), key=lambda c: c[0], default=None)

    def remove_best(self) -> None:
        self.mask.reshape(-1)[self.best[1]] = False
        self._update()


def remove(layers: Sequence[PrunedLayer], target: float) -> None:
    """Take weights and channels from the layers' masks until they need at most `target` cycles
    together, or nothing is left that saves any."""
    while sum(layer.cycles for layer in layers) > target:
        open_ = [layer for layer in layers if layer.best is not None]
        if not open_:
            return
        min(open_, key=lambda layer: layer.best[0]).remove_best()
