"""Do two searches find the same ticket? Survivors of both, beside what chance would share."""

from __future__ import annotations

import numpy as np

from .integer.network import Network

Masks = dict[str, np.ndarray]
"""bool arrays by layer, in the network's order; True survives."""


def masks_of(network: Network) -> Masks:
    """Surviving weights of an integer network by layer (".1" behind a second set of synapses)."""
    result: Masks = {}
    for layer, syn in network.synapses():
        name = layer.name if layer.name not in result else f"{layer.name}.1"
        result[name] = syn.weight != 0
    return result


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Survivors of both over survivors of either; 1 where neither has any."""
    either = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / either if either else 1.0


def by_chance(a: np.ndarray, b: np.ndarray) -> float:
    """Jaccard of two independent random masks with these densities, for many weights."""
    p, q = a.mean(), b.mean()
    return float(p * q / (p + q - p * q)) if p + q else 1.0


def overlap(a: Masks, b: Masks) -> dict | None:
    """Overlap of two tickets; None if their layers differ in number or size.

    Layers are compared in order and flat, so that a fully connected layer equals the convolution it
    is exported as. "chance" is what random masks with the same layer densities would share.
    """
    pairs = [(name, x.ravel(), y.ravel())
             for (name, x), y in zip(a.items(), b.values(), strict=False)]
    if len(a) != len(b) or any(x.size != y.size for _, x, y in pairs):
        return None
    both = sum(x.mean() * y.mean() * x.size for _, x, y in pairs)
    either = sum((x.mean() + y.mean() - x.mean() * y.mean()) * x.size for _, x, y in pairs)
    one, two = (np.concatenate([pair[i] for pair in pairs]) for i in (1, 2))
    return {"jaccard": jaccard(one, two), "chance": float(both / either) if either else 1.0,
            "by_layer": {name: {"jaccard": jaccard(x, y), "chance": by_chance(x, y)}
                         for name, x, y in pairs}}
