"""Synapses whose rows and columns differ, as the core has them: one number for both."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..integer.network import Layer, Shape, Synapses


def even(syn: Synapses, source: Shape) -> Synapses:
    """The same synapses with one number for rows and columns, as far as zero weights, repeated
    weights and strides that are never taken can do it. source: shape of their map."""
    if all(a == b for a, b in (syn.stride, syn.padding, syn.sum_pool)):
        return syn
    size, weight = (source.height, source.width), syn.weight
    stride, padding, pool = syn.stride, syn.padding, syn.sum_pool
    # A padding must not reach rows or columns that no window of an average pool covers.
    whole = not any(padding) or all(n % k == 0 for n, k in zip(size, pool, strict=True))
    if pool[0] != pool[1] and whole:
        weight = weight.repeat(pool[0], axis=2).repeat(pool[1], axis=3)
        stride, padding = (tuple(n * k for n, k in zip(values, pool, strict=True))
                           for values in (stride, padding))
        size, pool = tuple(n // k * k for n, k in zip(size, pool, strict=True)), (1, 1)
    single = [n // k + 2 * edge < w + step for n, k, edge, w, step in
              zip(size, pool, padding, weight.shape[2:], stride, strict=True)]
    if any(single):
        stride = (stride[single[0]],) * 2
    border = max(padding)
    edges = [(border - edge, border - edge) for edge in padding]
    weight = np.pad(weight, ((0, 0), (0, 0), *edges))
    return Synapses(weight, syn.sources, stride, (border, border), pool, syn.bits)


def even_synapses(layer: Layer, shapes: Mapping[str, Shape]) -> list[Synapses]:
    """A layer's synapses, even where they can be."""
    return [even(syn, shapes[syn.sources[0]]) for syn in layer.synapses]
