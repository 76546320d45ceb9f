"""Where an operator is a convolution, and its kernel.

Output position y of one axis reads input position i with weight K[i - stride * y]; what falls
outside the map reads zero. `locate` finds stride and extent of K from a few output positions,
channels mixed at random; `read` then takes every weight by a one-hot output. Both only propose:
`sw.imports.identify` checks on random maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from ..integer.floats import FloatSynapses
from .layouts import Layout
from .probing import NOISE, Probe, equal

MAX_SUM_POOL = 16
"""Positions of a sum pool along one axis."""


@dataclass(frozen=True)
class Axis:
    """One axis: K spans first .. last; `length` input and `outputs` output positions."""

    stride: int
    first: int
    last: int
    length: int
    outputs: int

    @property
    def taps(self) -> int:
        return self.last - self.first + 1

    @property
    def shared(self) -> bool:
        """Output positions share weights."""
        return self.outputs == 1 or self.length == 1 or self.stride < self.length

    def whole(self) -> range:
        """Output positions that see all of K."""
        low = max(0, -(self.first // self.stride))
        return range(low, min(self.outputs - 1, (self.length - 1 - self.last) // self.stride) + 1)

    def cover(self) -> list[int]:
        """Output positions that together see all of K."""
        found, need = [], self.last
        while need >= self.first:
            y = min(self.outputs - 1, (self.length - 1 - need) // self.stride)
            found.append(y)
            need = -self.stride * y - 1
        return found

    def seen(self, y: int) -> tuple[slice, slice]:
        """(taps of K, input positions) that output position y reads."""
        low = max(self.first, -self.stride * y)
        high = min(self.last, self.length - 1 - self.stride * y)
        return (slice(low - self.first, high + 1 - self.first),
                slice(low + self.stride * y, high + 1 + self.stride * y))

    def window(self) -> tuple[int, int, int]:
        """(stride, padding, kernel length) of a convolution with equal padding on both sides whose
        kernel begins `padding` before tap 0 and holds all taps."""
        stride, reach = self.stride, self.stride * (self.outputs - 1)
        padding = max(0, -self.first, self.last + 1 - self.length + reach)
        need, most = max(1, self.last + padding + 1), self.length + 2 * padding - reach
        if self.outputs == 1:
            return max(1, most - need + 1), padding, need
        return stride, padding, max(need, most - stride + 1)


def locate(probe: Probe, layout: Layout) -> dict[str, tuple[Axis, Axis]] | None:
    """(rows, columns) by map; None where the operator is no convolution in this layout."""
    ends = [probe.used[n].layout.size for n in probe.used]
    chosen = [_sample(layout.size[a], min((end[a] for end in ends), default=1)) for a in (0, 1)]
    prints = _fingerprints(probe, layout, *chosen)
    found = {}
    for name, seen in prints.items():
        size = probe.used[name].layout.size
        rows = _axis(seen.permute(0, 2, 1, 3).flatten(2), chosen[0], size[0], layout.size[0])
        columns = _axis(seen.permute(1, 3, 0, 2).flatten(2), chosen[1], size[1], layout.size[1])
        if rows is None or columns is None:
            return None
        found[name] = rows, columns
    return found


def _sample(outputs: int, length: int) -> list[int]:
    """Output positions of one axis that show stride and extent."""
    if outputs <= 4 or length < outputs:
        return list(range(outputs))
    middle = (outputs - 1) // 2
    return [0, middle, middle + 1, outputs - 1]


def _fingerprints(probe: Probe, layout: Layout, ys: Sequence[int], xs: Sequence[int],
                  ) -> dict[str, Tensor]:
    """By map [len(ys), len(xs), H, W]: weights between positions, channels mixed at random."""
    generator = torch.Generator().manual_seed(2)
    channels, height, width = layout.shape
    mix = torch.randn(channels, generator=generator, dtype=torch.float64)
    unmix = {n: torch.randn(m.layout.shape[0], generator=generator, dtype=torch.float64)
             for n, m in probe.used.items()}
    places = list(product(range(len(ys)), range(len(xs))))
    result = {n: torch.zeros(len(ys), len(xs), *m.layout.size, dtype=torch.float64)
              for n, m in probe.used.items()}
    for start in range(0, len(places), len(probe.slots)):
        weights = torch.zeros(probe.steps, probe.batch, channels, height, width,
                              dtype=torch.float64)
        group = list(zip(probe.slots, places[start:start + len(probe.slots)], strict=False))
        for (t, b), (i, j) in group:
            weights[t, b, :, ys[i], xs[j]] = mix
        for name, grad in probe.pull(layout.to_raw(weights), probe.used).items():
            for (t, b), (i, j) in group:
                result[name][i, j] = torch.einsum("chw,c->hw", grad[t, b], unmix[name])
    return result


def _axis(seen: Tensor, ys: Sequence[int], length: int, outputs: int) -> Axis | None:
    """The axis that explains seen [len(ys), length, anything].

    A pool leaves positions out that its windows do not reach (7 become 3 by 2), also where a padded
    convolution follows; there K is looked for without them, and taken if it has such a pool.
    """
    generator = torch.Generator().manual_seed(3)
    seen = seen @ torch.randn(seen.shape[2], 2, generator=generator, dtype=torch.float64)
    found, _ = _fit(seen, ys, length, outputs)
    alive = (seen.abs().amax((0, 2)) > NOISE * float(seen.abs().max())).nonzero()
    read = int(alive[-1]) + 1 if len(alive) else length
    if read < length and (found is None or not found.shared):
        short, kernel = _fit(seen[:, :read], ys, read, outputs)
        pool = 1 if short is None or not short.shared else _pooled(kernel, 0, short)[0]
        if pool > 1 and length // pool == read // pool:
            return short
    return found


def _fit(seen: Tensor, ys: Sequence[int], length: int, outputs: int,
         ) -> tuple[Axis | None, Tensor | None]:
    """(axis, K [taps, 2]) with the narrowest K that explains seen [len(ys), length, 2]."""
    scale = float(seen.abs().max())
    best = weights = None
    for stride in range(1, length + 1) if outputs > 1 else (1,):
        offset = stride * (outputs - 1)
        kernel = torch.zeros(length + offset, 2, dtype=torch.float64)
        known = torch.zeros(length + offset, dtype=torch.bool)
        for y, values in zip(ys, seen, strict=True):
            part = slice(offset - stride * y, offset - stride * y + length)
            both = known[part]
            if bool(both.any()) and not equal(kernel[part][both], values[both], scale):
                break
            kernel[part], known[part] = values, True
        else:
            alive = (kernel.abs().amax(1) > NOISE * scale).nonzero().flatten()
            if bool(known.all()) and len(alive):
                first, last = int(alive[0]) - offset, int(alive[-1]) - offset
                if best is None or last - first + 1 < best.taps:
                    best = Axis(stride, first, last, length, outputs)
                    weights = kernel[alive[0]:alive[-1] + 1]
    return best, weights


def read(probe: Probe, layout: Layout, name: str, axes: tuple[Axis, Axis]) -> Tensor:
    """K of a map, [C_out, C_in, taps, taps]."""
    rows, columns = axes
    channels = layout.shape[0]
    kernel = torch.zeros(channels, probe.used[name].layout.shape[0], rows.taps, columns.taps,
                         dtype=torch.float64)
    for ys, xs in product(_lattices(rows), _lattices(columns)):
        places = [(t, b, y, x) for t, b in probe.slots for y in ys for x in xs]
        for start in range(0, channels, len(places)):
            weights = torch.zeros(probe.steps, probe.batch, *layout.shape, dtype=torch.float64)
            group = list(zip(range(start, channels), places, strict=False))
            for o, (t, b, y, x) in group:
                weights[t, b, o, y, x] = 1
            grad = probe.pull(layout.to_raw(weights), (name,))[name]
            for o, (t, b, y, x) in group:
                (ky, iy), (kx, ix) = rows.seen(y), columns.seen(x)
                kernel[o, :, ky, kx] = grad[t, b, :, iy, ix]
    top = max(float(kernel.max()), -float(kernel.min()))
    kernel[kernel.abs() <= NOISE * top] = 0
    return kernel


def _lattices(axis: Axis) -> list[list[int]]:
    """Groups of output positions; those of a group read different inputs, and each group sees
    another part of K."""
    whole = axis.whole()
    if not whole:
        return [[y] for y in axis.cover()]
    return [list(whole[::-(-axis.taps // axis.stride)])]


def synapses(kernel: Tensor, axes: tuple[Axis, Axis], name: str) -> FloatSynapses:
    """The connection with kernel K; windows over which K is constant become a sum pool."""
    pools, windows = [], []
    for dim, axis in zip((2, 3), axes, strict=True):
        pool, kernel, axis = _pooled(kernel, dim, axis)
        stride, padding, taps = axis.window()
        edges = axis.first + padding, taps - axis.last - padding - 1
        kernel = torch.cat([_zeros(kernel, dim, edges[0]), kernel, _zeros(kernel, dim, edges[1])],
                           dim)
        pools.append(pool)
        windows.append((stride, padding))
    strides, paddings = zip(*windows, strict=True)
    return FloatSynapses(kernel.contiguous(), (name,), strides, paddings, tuple(pools))


def _zeros(kernel: Tensor, dim: int, count: int) -> Tensor:
    size = list(kernel.shape)
    size[dim] = count
    return kernel.new_zeros(size)


def _pooled(kernel: Tensor, dim: int, axis: Axis) -> tuple[int, Tensor, Axis]:
    """(pool, kernel, axis) with the widest sum pool along one axis."""
    scale = float(kernel.abs().max())
    for pool in range(min(MAX_SUM_POOL, axis.taps), 1, -1):
        steps = axis.stride if axis.outputs > 1 else pool
        if steps % pool or axis.first % pool or axis.taps % pool:
            continue
        windows = axis.length // pool
        if axis.last + axis.stride * (axis.outputs - 1) >= windows * pool != axis.length:
            continue
        blocks = kernel.unflatten(dim, (axis.taps // pool, pool))
        first = blocks.select(dim + 1, 0)
        if float((blocks - first.unsqueeze(dim + 1)).abs().max()) <= NOISE * scale:
            return pool, first, Axis(steps // pool, axis.first // pool,
                                     (axis.last + 1) // pool - 1, windows, axis.outputs)
    return 1, kernel, axis
