"""Channels that an integer network does without: left out, exactly.

A core visits every neuron of a layer, also those of a channel that can never spike, because it has
no synapse left and its bias alone stays below the threshold, and those of a channel that no
surviving weight reads. Without both all other spikes and the logits are what they were.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..integer import reference
from ..integer.network import Layer, Network, Synapses


def trimmed(network: Network) -> Network:
    """The network without its silent and its unread channels, at least one of every map.

    Only of maps that synapses alone read, each map by itself: channels of attention, of gates and
    of residual sums belong together and stay.
    """
    while True:
        for layer in network.layers:
            keep = _needed(network, layer)
            if keep is not None and not keep.all():
                network = _without(network, layer, keep)
                break
        else:
            return network


def readers(network: Network, layer: Layer) -> list[Synapses] | None:
    """The synapses that read a layer's map; None where its channels have to stay: it is the
    readout or attention, or others than synapses of this map alone read it."""
    if not isinstance(layer, Layer) or layer.neuron is None or layer.attention is not None:
        return None
    found: list[Synapses] = []
    for other in network.layers:
        if isinstance(other, Layer) and other.attention is None:
            reads = [syn for syn in other.synapses if layer.name in syn.sources]
            if any(syn.sources != (layer.name,) for syn in reads):
                return None
            found += reads
        elif layer.name in (*getattr(other, "sources", ()), *getattr(other, "scores", ())):
            return None     # attention, a selection, a gate
    return found


def _needed(network: Network, layer: Layer) -> np.ndarray | None:
    """bool [channels]: which a layer has to compute; None where all have to stay."""
    reads = readers(network, layer)
    if reads is None:
        return None
    read = np.any([np.zeros(layer.channels), *(syn.weight.any((0, 2, 3)) for syn in reads)], 0)
    alive = np.any([syn.weight.any((1, 2, 3)) for syn in layer.synapses], 0)
    keep = read & (alive | _fires_alone(layer, network.timesteps))
    if not keep.any():
        keep[0] = True
    return keep


def _fires_alone(layer: Layer, timesteps: int) -> np.ndarray:
    """bool [channels]: neurons that spike with their bias as the only current."""
    bias = layer.bias.astype(np.int64)[None, None, :, None, None]
    return reference.fire(layer.neuron, layer.threshold, bias, timesteps).any((0, 1, 3, 4))


def _without(network: Network, layer: Layer, keep: np.ndarray) -> Network:
    """The network with these channels of a layer alone."""
    def cut(other: Layer) -> Layer:
        if not isinstance(other, Layer):
            return other
        if other is layer:
            return replace(other, bias=other.bias[keep], threshold=other.threshold[keep],
                           synapses=tuple(replace(syn, weight=syn.weight[keep])
                                          for syn in other.synapses))
        return replace(other, synapses=tuple(
            replace(syn, weight=syn.weight[:, keep]) if syn.sources == (layer.name,) else syn
            for syn in other.synapses))
    return replace(network, layers=tuple(map(cut, network.layers)))
