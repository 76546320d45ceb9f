"""The average over a whole map as a number, counted once.

A layer behind an average over a whole map (one output, as in front of a classifier) would read
every position for each of its weights, though all of them have the same weight. Instead, spikes
are counted first, channel by channel: a step for each bit of the count, the highest first, with
neurons that fire where the count, less what the bits above stand for, reaches the bit's value. The
layer then reads these maps of one position as the bit-planes of a number.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..integer.network import Layer, Neuron, Shape, Synapses
from .steps import Step, Use, Version, pooled_positions


def count_steps(layer: Layer, shapes: Mapping[str, Shape]) -> list[Step]:
    """The steps of a layer that `steps.countable` accepts; the last one is the layer's own, those
    before it make the maps of `count_shapes`."""
    [syn] = layer.synapses
    k, names = syn.sum_pool[0], list(count_shapes(layer, shapes))
    channels = shapes[syn.sources[0]].channels
    eye = np.eye(channels, dtype=np.int8)[:, :, None, None]
    factor = 2 if k > 4 and k % 2 == 0 else 1       # not too many taps, nor phases
    by = k // factor
    spikes = Use(eye.repeat(by, axis=2).repeat(by, axis=3), syn.sources, by, 0, factor, factor,
                 by, by, (k, k))
    steps = []
    for bit in reversed(range(len(names))):
        above = [_single(-eye, (names[n],), (n,)) for n in range(bit + 1, len(names))]
        counter = Layer(layer.name, (Synapses(eye, syn.sources, bits=1),),
                        np.zeros(channels, np.int64), np.full(channels, 1 << bit), Neuron(leak=0))
        steps.append(Step(counter, (spikes, *above), None, 1, 1, 1, True, "copy",
                          output=Version(names[bit], channels, 1, 1, 1)))
    own = _single(syn.weight, tuple(names), tuple(range(len(names))))
    return [*steps, Step(layer, (own,), None, 1, 1, 1, True, weights=syn.weight.size,
                         surviving=int(np.count_nonzero(syn.weight)))]


def count_shapes(layer: Layer, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Maps that hold the bits of the counts, the lowest first."""
    source = shapes[layer.synapses[0].sources[0]]
    return {f"{layer.name}#{bit}": Shape(source.channels, 1, 1)
            for bit in range(pooled_positions(layer).bit_length())}


def _single(weight: np.ndarray, sources: tuple[str, ...], shifts: tuple[int, ...]) -> Use:
    """A use of maps of one position."""
    return Use(weight, sources, 1, 0, 1, 1, 1, 1, (1, 1), shifts=shifts)
