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
from ..integer.maps import steps
from ..integer.quantize import ScaledLayer
from ..integer.spikingjelly import IntegerLayer
from ..integer.units import BIAS_LIMIT
from .floats import FloatNetwork
from .integers import Imported


@torch.no_grad()
def calibrate(imported: Imported, inputs: np.ndarray, batch: int = 25,
              masks: np.ndarray | None = None) -> Imported:
    """The imported network with corrected biases.

    inputs: integers [N, C, H, W] (static) or [N, T, C, H, W], of training data, 50 to 500 of them.
    masks: bool [N, tokens] for a gate that takes them from the host. The result's facts say how
    many biases changed.
    """
    if len(inputs) == 0:
        raise SpikeTicketError("calibration needs at least one input")
    floats, network, scaled = FloatNetwork(imported), imported.network, imported.scaled
    wanted: dict[str, list[Tensor]] = {}
    ways = []
    for start in range(0, len(inputs), batch):
        x = torch.from_numpy(inputs[start:start + batch].copy())
        x = x if network.input.static else x.transpose(0, 1)
        currents: dict[str, Tensor] = {}
        part = None if masks is None else masks[start:start + batch]
        floats(x, currents=currents, masks=None if part is None else torch.from_numpy(part))
        for name, found in currents.items():
            wanted.setdefault(name, []).append(found)
        ways.append(steps(network.layers, x.unsqueeze(0) if network.input.static else x, part))
    made, changed = {}, 0
    layers = {s.name: s for s in scaled if isinstance(s, ScaledLayer)}
    here = [next(way) for way in ways]
    for name, source in layers.items():
        layer = here[0][0]
        if source.synapses:
            module = IntegerLayer(network, replace(layer, bias=np.zeros_like(layer.bias)))
            found = _mean([module.currents(maps).double().mean((0, 3, 4)) for _, maps in here])
            # What a strict comparison added to the bias stays.
            base = source.whole_bias.double()
            corrected = (_mean(wanted[name]) - found).round().clamp(-BIAS_LIMIT, BIAS_LIMIT)
            step = torch.where(source.exact, torch.zeros_like(base), corrected - base)
            changed += int((step != 0).sum())
            layer = replace(layer, bias=layer.bias + step.to(torch.int64).numpy())
        made[name] = layer
        if layer.neuron is not None:
            module = IntegerLayer(network, layer)
            here = [way.send(module(maps)) for way, (_, maps) in zip(ways, here, strict=True)]
    operations = tuple(made.get(layer.name, layer) for layer in network.layers)
    corrected = replace(network, layers=operations)
    facts = {**imported.facts, "calibrated_on": len(inputs), "biases_corrected": changed}
    return replace(imported, network=corrected, facts=facts)


def _mean(batches: Sequence[Tensor]) -> Tensor:
    """Mean over all inputs, [C], of [B, C] per batch."""
    return torch.cat(list(batches)).mean(0)
