"""How little memory a network can do with, on any core that keeps it on the chip, runs it layer by
layer and stores weights' values whole: what no format of their places, and of the maps, goes below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..integer.network import INPUT, Layer, Network, Shape, entropy_bits


@dataclass(frozen=True)
class Least:
    """Bits. weights: the survivors' values, and their places at the entropy bound (thresholds and
    biases left out). maps: what the layer `layer`, the one that needs most, reads and writes."""

    weights: int
    maps: int
    layer: str


def least(network: Network) -> Least:
    """The bound of a network; its masks count as drawn at random with their densities."""
    weights = sum(entropy_bits(syn.density, syn.bits) * int((syn.weight != 0).sum())
                  for _, syn in network.synapses() if syn.density)
    shapes = network.shapes()
    maps, layer = max((_read(network, layer, shapes) + _written(network, layer, shapes), layer.name)
                      for layer in network.layers if isinstance(layer, Layer))
    return Least(math.ceil(weights), maps, layer)


def _read(network: Network, layer: Layer, shapes: Mapping[str, Shape]) -> int:
    """Bits of the maps that a layer reads. A sum of k spike maps is a number in 0..k, whether a
    core keeps the maps or the sum; of sums that share a map only the longest counts."""
    groups = ([(name,) for name in layer.sources] if layer.attention is not None
              else [syn.sources for syn in layer.synapses])
    counted: set[str] = set()
    bits = 0
    for group in sorted({tuple(sorted(group)) for group in groups}, key=len, reverse=True):
        if counted.isdisjoint(group):
            counted.update(group)
            spec = network.input
            width = (spec.bits if INPUT in group else 1) + math.ceil(math.log2(len(group) + 1)) - 1
            steps = 1 if group == (INPUT,) and spec.static else network.timesteps
            bits += _positions(shapes[group[0]]) * width * steps
    return bits


def _written(network: Network, layer: Layer, shapes: Mapping[str, Shape]) -> int:
    """Bits of the spike map that a layer writes, behind its pool; the readout writes none."""
    return 0 if layer.neuron is None else _positions(shapes[layer.name]) * network.timesteps


def _positions(shape: Shape) -> int:
    return shape.channels * shape.height * shape.width
