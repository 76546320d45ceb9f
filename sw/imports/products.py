"""Products of spike maps as neurons, and pools of maxima.

A product of spikes is an AND: a neuron without memory that fires at two of two spikes. Factors may
be inverted (1 - x, SEW's IAND), scaled, and broadcast over positions or channels. A maximum over a
window of values that are whole numbers 0 .. M is, for each level, the OR of the spikes of neurons
that fire from that level on, and the sum of these ORs; one of currents belongs to the neuron
behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..integer.floats import FloatLayer, FloatNeuron, FloatSynapses
from ..integer.network import INPUT, Pool
from .identify import COPY_BITS, Affine, affine
from .layouts import Layout
from .probing import Map, NotAffine, Operator, equal

MAX_LEVELS = 255
"""Levels of a maximum over the input or over sums of spikes: a layer for each."""


def memoryless(theta: Tensor) -> FloatNeuron:
    """Fires where the timestep's current reaches theta."""
    return FloatNeuron(0.0, theta, torch.zeros_like(theta))


def product(name: str, first: Operator, second: Operator, maps: Mapping[str, Map],
            dims: Sequence[int]) -> tuple[FloatLayer, Map]:
    """first x second, broadcast to [T, B, *dims], as a layer `name` of neurons; the map of the
    product has the `unit` that the factors' scales make."""
    units = [_unit(factor, maps) for factor in (first, second)]

    def both(given: Mapping[str, Tensor]) -> Tensor:
        a, b = (f(given).double() / unit for f, unit in zip((first, second), units, strict=True))
        steps, batch = max(len(a), len(b)), a.shape[1]
        return (a.expand(steps, batch, *dims) + b.expand(steps, batch, *dims)).contiguous()

    found = affine(both, maps, dims)
    connections = tuple(replace(s, weight=_whole(s.weight), bits=COPY_BITS) for s in found.synapses)
    bias = _whole(found.bias)
    theta = (2 - bias).clamp_min(1)              # the current is 2 where both factors are 1
    layer = FloatLayer(name, connections, bias - 2 + theta, memoryless(theta))
    unit = units[0] * units[1]
    steps = max((maps[n].steps for n in maps), default=1)
    return layer, Map(name, found.layout, unit == 1, steps, unit)


def _whole(values: Tensor) -> Tensor:
    """-2 .. 2 without the rounding errors of the factors' scales."""
    if not equal(values, values.round(), 1.0):
        raise NotAffine("multiplies sums of spikes; only spikes (0 or 1) times spikes are a "
                        "neuron: put a neuron behind each factor")
    return values.round() + 0.0


def _unit(factor: Operator, maps: Mapping[str, Map]) -> float:
    """u of a factor that is 0 or u on spikes."""
    with torch.no_grad():
        zero = factor({})
        generator = torch.Generator().manual_seed(51)
        given = {n: m.draw(zero.shape[1], generator) for n, m in maps.items()}
        values = factor(given).double()
    top = float(values.flatten()[values.abs().argmax()])
    if top == 0 or not equal(torch.minimum(values.abs(), (values - top).abs()),
                             torch.zeros_like(values), abs(top)):
        raise NotAffine("multiplies spikes by values that are not spikes; only spikes (0 or 1) "
                        "times spikes are a neuron: put a neuron behind the other factor")
    return top


@dataclass(frozen=True)
class Pooled:
    """A pool of maxima. layers: neurons whose spikes add up to it; none where it is one of
    `currents`, for `behind`. map: the pooled map."""

    layers: tuple[FloatLayer, ...]
    map: Map
    currents: Affine | None = None
    pool: Pool | None = None


def max_pool(name: str, operator: Operator, maps: Mapping[str, Map], dims: Sequence[int],
             out: Sequence[int], window: Pool) -> Pooled:
    """A maximum over windows of the last axes of [T, B, *dims], which gives [T, B, *out]."""
    found = affine(operator, maps, dims, Layout.standard(dims))
    if any(m.top == 0 and set(m.layers) & {n for s in found.synapses for n in s.sources}
           for m in maps.values()):
        raise NotAffine("is a max pool behind a max pool of currents; let one pool be as large as "
                        "both, or put a neuron between")
    layout = Layout.standard(out)
    steps = max((m.steps for m in maps.values()), default=1)
    levels = _levels(found, maps)
    if levels is None:
        real = Map(name, layout, False, steps, top=0)
        return Pooled((), real, found, replace(window, mode="max"))
    factor, step, top = levels
    ones = tuple(replace(s, weight=(s.weight != 0).double(), bits=COPY_BITS)
                 for s in found.synapses)
    names = [name] if top == 1 else [f"{name}.{level}" for level in range(1, top + 1)]
    made = tuple(FloatLayer(layer, ones, torch.zeros_like(found.bias),
                            memoryless(torch.full_like(found.bias, step * level)),
                            replace(window, mode="or"))
                 for level, layer in enumerate(names, 1))
    unit = factor * step
    return Pooled(made, Map(name, layout, unit == 1 == top, steps, unit, top, tuple(names)))


def _levels(found: Affine, maps: Mapping[str, Map]) -> tuple[float, float, int] | None:
    """(w, u, M) where every value is w x u x 0 .. M, of at most one tap by connection and output
    (none where maps lie side by side as channels); else None.

    u: what one level of the sources is.
    """
    by_layer = {layer: m for m in maps.values() for layer in m.layers}
    weights, steps = set(), set()
    tops = torch.zeros(len(found.bias), dtype=torch.int64)
    for s in found.synapses:
        alive = s.weight != 0
        sizes = {by_layer[n].layout.size for n in s.sources if n in by_layer}
        taps = _taps(s, sizes.pop()) if len(sizes) == 1 else alive.flatten(1).sum(1)
        if not bool((taps <= 1).all()) or s.sum_pool != (1, 1):
            return None
        weights |= set(s.weight[alive].tolist())
        for source in s.sources:
            m = by_layer.get(source)             # None: the ones
            if m is None or m.top == 0:
                return None
            steps.add(m.unit if source == INPUT else 1.0)
            tops += taps * (m.top if source == INPUT else 1)
    top = int(tops.max())
    if (len(weights), len(steps)) != (1, 1) or bool(found.bias.any()) or top > MAX_LEVELS:
        return None
    weight = weights.pop()
    return (weight, steps.pop(), top) if weight > 0 else None


def _taps(s: FloatSynapses, size: tuple[int, int]) -> Tensor:
    """Most weights [K] that meet one output: in some layouts each of a kernel meets another."""
    alive = (s.weight != 0).double()
    ones = torch.ones((1, alive.shape[1], *size), dtype=torch.float64)
    met = torch.nn.functional.conv2d(ones, alive, stride=s.stride, padding=s.padding)
    return met[0].flatten(1).amax(1).long()


def behind(found: Affine, pooled: Pooled) -> tuple[tuple[FloatSynapses, ...], Tensor, Pool]:
    """(synapses, bias, pool) of a neuron whose operand `found` reads a pool of currents: a positive
    scale and a shift of each channel go before the pool."""
    s = found.synapses[0] if len(found.synapses) == 1 else None
    if s is None or s.sources != (pooled.map.name,) or not _diagonal(s):
        raise NotAffine("reads a max pool of currents and weighs or adds what comes out; put the "
                        "neuron behind the pool")
    weight = s.weight[:, :, 0, 0]
    scale, channel = weight.sum(1), weight.abs().argmax(1)
    if bool((scale < 0).any()):
        raise NotAffine(f"scales channel {int((scale < 0).nonzero()[0])} behind a max pool by a "
                        "negative number; put the pool behind the norm")
    scaled = tuple(replace(t, weight=t.weight[channel] * scale.view(-1, 1, 1, 1))
                   for t in pooled.currents.synapses)
    return scaled, pooled.currents.bias[channel] * scale + found.bias, pooled.pool


def _diagonal(s: FloatSynapses) -> bool:
    shape = (tuple(s.weight.shape[2:]), s.stride, s.padding, s.sum_pool)
    single = bool(((s.weight != 0).flatten(1).sum(1) <= 1).all())
    return single and shape == ((1, 1), (1, 1), (0, 0), (1, 1))
