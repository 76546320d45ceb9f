"""A network and its spikes with one kind of sparsity taken away, or thinned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from ..integer.gate import Gate, Select
from ..integer.network import INPUT, Layer, Network

Spikes = Mapping[str, np.ndarray]


def dense_weights(network: Network) -> Network:
    """The same network with every removed weight put back (as 1)."""
    return _with_weights(network, lambda w: np.where(w == 0, np.int8(1), w))


def thinned_weights(network: Network, share: float, seed: int = 0) -> Network:
    """With a random `share` of the surviving weights in every layer."""
    rng = np.random.default_rng(seed)
    return _with_weights(network, lambda w: w * (rng.random(w.shape) < share).astype(np.int8))


def _with_weights(network: Network, change: Callable[[np.ndarray], np.ndarray]) -> Network:
    layers = tuple(
        replace(layer, synapses=tuple(replace(syn, weight=change(syn.weight))
                                      for syn in layer.synapses))
        if isinstance(layer, Layer) else layer for layer in network.layers)
    return replace(network, layers=layers)


def ungated(network: Network) -> Network:
    """The network without its gates: selections give way to their sources."""
    whole = {layer.name: layer.source for layer in network.layers if isinstance(layer, Select)}

    def rename(layer: Layer) -> Layer:
        synapses = tuple(replace(s, sources=tuple(whole.get(n, n) for n in s.sources))
                         for s in layer.synapses)
        return replace(layer, synapses=synapses)
    return replace(network, layers=tuple(
        rename(layer) for layer in network.layers if isinstance(layer, Layer)))


def with_keep(network: Network, keep: int) -> Network:
    """The network with `keep` tokens kept by its gate; a static mask keeps its first ones, then
    others in order."""
    def change(gate: Gate) -> Gate:
        if gate.mask is None:
            return replace(gate, keep=keep)
        order = np.argsort(~gate.mask, kind="stable")
        mask = np.zeros_like(gate.mask)
        mask[order[:keep]] = True
        return replace(gate, keep=keep, mask=mask)
    return replace(network, layers=tuple(
        change(layer) if isinstance(layer, Gate) else layer for layer in network.layers))


def full_spikes(network: Network) -> dict[str, np.ndarray]:
    """Every neuron and every input bit active at every timestep."""
    spikes = {name: np.ones((network.timesteps, s.channels, s.height, s.width), np.uint8)
              for name, s in network.shapes().items()}
    spikes[INPUT] *= (1 << network.input.bits) - 1
    return spikes


def thinned_spikes(spikes: Spikes, share: float, bits: int, static: bool,
                   seed: int = 0) -> dict[str, np.ndarray]:
    """A random `share` of all active (channel, position, group of timesteps), in every map."""
    rng = np.random.default_rng(seed)
    result = {}
    for name, values in spikes.items():
        timesteps = len(values)
        groups = 1 if name == INPUT and static else -(-timesteps // 4)
        planes = bits if name == INPUT else 1
        mask = np.zeros((groups, *values.shape[1:]), np.uint8)
        for plane in range(planes):
            mask |= (rng.random(mask.shape) < share).astype(np.uint8) << plane
        repeats = timesteps if groups == 1 and name == INPUT and static else 4
        result[name] = values & np.repeat(mask, repeats, axis=0)[:timesteps]
    return result
