"""Attention between spike maps: currents without weights, from spikes alone.

query, key and value are spike maps [C, H, W] of one shape, read as C channels of N = H * W tokens
(token n is row n // W, column n % W)::

    Attention        x_t[h*d + j, n] = sum over m and i of
                                       q_t[h*d + i, n] k_t[h*d + i, m] v_t[h*d + j, m]
    ColumnAttention  x_t[c]          = sum over m of k_t[c, m] v_t[c, m]

The first is the spiking self-attention of Spikformer (arXiv 2209.15425), (q k^T) v without a
softmax, head h of `heads` being d = C / heads channels; the second is that of the Spike-driven
Transformer (arXiv 2307.01694), whose one spike per channel lets q_t[c, n] through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import SpikeTicketError
from .shapes import Shape

MAX_TOKENS = 256
"""Tokens of a gate, and of attention on the core."""

HEAD_WIDTHS = range(8, 65)
"""Channels of one head on the core."""


def _common_shape(where: str, sources: tuple[str, str, str], shapes: Mapping[str, Shape]) -> Shape:
    """The one shape of query, key and value; raises SpikeTicketError."""
    for name in sources:
        if name not in shapes or name == "input":
            raise SpikeTicketError(f"{where}: attention reads {name!r}, which is not an earlier "
                                   "spike map")
    shape = shapes[sources[0]]
    for name in sources[1:]:
        if shapes[name] != shape:
            raise SpikeTicketError(f"{where}: query, key and value {sources} differ in shape")
    return shape


def _tokens(spikes: np.ndarray, heads: int) -> np.ndarray:
    """[T, B, C, H, W] -> [T, B, heads, d, N] in a float type that holds every sum, up to N * d."""
    steps, images, channels, height, width = spikes.shape
    exact = channels // heads * height * width < 1 << 24
    return spikes.reshape(steps, images, heads, channels // heads, -1).astype(
        np.float32 if exact else np.float64)


@dataclass(frozen=True)
class Attention:
    """Spiking self-attention; names of the query, key and value maps, number of heads."""

    query: str
    key: str
    value: str
    heads: int

    @property
    def sources(self) -> tuple[str, str, str]:
        return self.query, self.key, self.value

    def neurons(self, where: str, shapes: Mapping[str, Shape]) -> Shape:
        """Shape of the layer's neurons: a neuron for every channel and token."""
        shape = _common_shape(where, self.sources, shapes)
        if self.heads < 1 or shape.channels % self.heads:
            raise SpikeTicketError(f"{where}: {shape.channels} channels do not divide into "
                                   f"{self.heads} heads")
        return shape

    def bound(self, shape: Shape) -> int:
        """Largest x_t, reached when everything spikes: N * d."""
        return shape.tokens * (shape.channels // self.heads)

    def currents(self, maps: Mapping[str, np.ndarray]) -> np.ndarray:
        """x_t from spike maps [T, B, C, H, W], in the core's order; int64 of the same shape."""
        q, k, v = (_tokens(maps[name], self.heads) for name in self.sources)
        together = k @ v.swapaxes(-1, -2)           # [.., i, j], in how many tokens both spike
        x = together.swapaxes(-1, -2) @ q           # [.., j, n]
        return x.reshape(maps[self.query].shape).astype(np.int64)

    def output(self, spikes: np.ndarray, maps: Mapping[str, np.ndarray]) -> np.ndarray:
        """The layer's map from its neurons' spikes: the spikes themselves."""
        return spikes

    def work(self, maps: Mapping[str, np.ndarray], group: int) -> tuple[int, int, int]:
        """Operations (executed, dense, useful) on spike maps [T, B, C, H, W].

        One per pair of a key and a value spike of a token and head, and d per query spike (a row of
        the d x d counts is added); dense: if everything spiked; useful: the same with neurons
        that spike within `group` timesteps, each group once.
        """
        steps, images, channels, height, width = maps[self.query].shape
        d = channels // self.heads
        executed = self._operations(maps, 1)
        dense = 2 * steps * images * height * width * channels * d
        return executed, dense, self._operations(maps, group)

    def _operations(self, maps: Mapping[str, np.ndarray], group: int) -> int:
        total = 0
        for first in range(0, len(maps[self.query]), group):
            q, k, v = (np.bitwise_or.reduce(maps[name][first:first + group], keepdims=True)
                       for name in self.sources)
            k, v = (_tokens(x, self.heads).sum(3, dtype=np.float64) for x in (k, v))
            d = q.shape[2] // self.heads
            total += int((k * v).sum()) + d * int(q.sum(dtype=np.int64))
        return total


@dataclass(frozen=True)
class ColumnAttention:
    """Spike-driven attention; names of the query, key and value maps.

    Every channel is summed by itself, so heads make no difference.
    """

    query: str
    key: str
    value: str

    @property
    def sources(self) -> tuple[str, str, str]:
        return self.query, self.key, self.value

    def neurons(self, where: str, shapes: Mapping[str, Shape]) -> Shape:
        """Shape of the layer's neurons: one for every channel."""
        shape = _common_shape(where, self.sources, shapes)
        return type(shape)(shape.channels, 1, 1)

    def bound(self, shape: Shape) -> int:
        """Largest x_t, reached when every key and value spikes: N."""
        return shape.tokens

    def currents(self, maps: Mapping[str, np.ndarray]) -> np.ndarray:
        """x_t from spike maps [T, B, C, H, W]: int64 [T, B, C, 1, 1]."""
        both = maps[self.key] & maps[self.value]
        return both.sum((-2, -1), dtype=np.int64, keepdims=True)

    def output(self, spikes: np.ndarray, maps: Mapping[str, np.ndarray]) -> np.ndarray:
        """The layer's map: a channel's spike [T, B, C, 1, 1] AND its query spikes."""
        return spikes & maps[self.query]

    def work(self, maps: Mapping[str, np.ndarray], group: int) -> tuple[int, int, int]:
        """Operations (executed, dense, useful): one per token where key and value both spike."""
        k, v = maps[self.key], maps[self.value]
        useful = sum(int((np.bitwise_or.reduce(k[first:first + group])
                          & np.bitwise_or.reduce(v[first:first + group])).sum(dtype=np.int64))
                     for first in range(0, len(k), group))
        return int((k & v).sum(dtype=np.int64)), k.size, useful
