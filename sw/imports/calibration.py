"""Calibration: biases that make up for what the rounding of weights did, on average.

For every channel, layer by layer: the mean current of the integer network (which already runs on
the corrected spikes of the layers before) is brought to that of the float network (bias correction
of post-training quantisation, Nagel et al. 2019, arXiv 1906.04721, with data instead of its
analytic mean). Channels that are exact are left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..errors import SpikeTicketError
from ..integer.network import INPUT, Network
from ..integer.quantize import BIAS_LIMIT
from ..integer.spikingjelly import IntegerLayer
from .floats import FloatNetwork
from .integers import Imported


@torch.no_grad()
def calibrate(imported: Imported, inputs: np.ndarray, batch: int = 25) -> Imported:
    """The imported network with corrected biases.

    inputs: integers [N, C, H, W] (static) or [N, T, C, H, W], of training data, 50 to 500 of them.
    The result's facts say how many biases changed.
    """
    if len(inputs) == 0:
        raise SpikeTicketError("calibration needs at least one input")
    floats = FloatNetwork(imported)
    network, static = imported.network, imported.network.input.static
    parts = []
    for start in range(0, len(inputs), batch):
        x = torch.from_numpy(inputs[start:start + batch].copy())
        x = x if static else x.transpose(0, 1)
        currents: dict[str, Tensor] = {}
        floats(x, currents=currents)
        parts.append((x.unsqueeze(0) if static else x, currents))
    maps = [{INPUT: x} for x, _ in parts]
    layers, changed = list(network.layers), 0
    for i, (layer, folded) in enumerate(zip(network.layers, floats.folded, strict=True)):
        wanted = _mean([c[layer.name] for _, c in parts])
        silent = replace(layer, bias=np.zeros_like(layer.bias))
        module = IntegerLayer(network, silent)
        found = _mean([module.currents(m).double().mean((0, 3, 4)) for m in maps])
        # What a strict comparison added to the bias stays.
        base = (folded.bias / imported.units[layer.name]).round()
        corrected = (wanted - found).round().clamp(-BIAS_LIMIT, BIAS_LIMIT)
        exact = imported.exact[layer.name]
        step = torch.where(exact, torch.zeros_like(base), corrected - base)
        changed += int((step != 0).sum())
        layers[i] = replace(layer, bias=layer.bias + step.to(torch.int64).numpy())
        if layer.neuron is not None:
            module = IntegerLayer(network, layers[i])
            for m in maps:
                m[layer.name] = module(m)
    made = Network(network.input, network.timesteps, tuple(layers), network.name, network.labels)
    facts = {**imported.facts, "calibrated_on": len(inputs), "biases_corrected": changed}
    return replace(imported, network=made, facts=facts)


def _mean(batches: Sequence[Tensor]) -> Tensor:
    """Mean over all inputs, [C], of [B, C] per batch."""
    return torch.cat(list(batches)).mean(0)
