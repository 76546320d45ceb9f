"""What the neuron lane must answer: plain Python from `docs/core.md`, not from the gateware."""

from __future__ import annotations

from collections.abc import Sequence

from sim.units.layers import Layer


def neuron(currents: Sequence[int], membrane: int, bias: int, threshold: int,
           layer: Layer) -> tuple[int, int]:
    """Four timesteps of one neuron: (spike mask, membrane after them)."""
    mask = 0
    for t, current in enumerate(currents):
        membrane = layer["leak"] * membrane // 256 + current + bias
        if membrane >= threshold:
            mask |= 1 << t
            membrane = membrane - threshold if layer["soft_reset"] else layer["v_reset"]
    return mask, membrane
