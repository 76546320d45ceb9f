"""What membranes can reach: layers that no input can make fire, or that fire whatever comes.

Bounds of the equations in `sw.integer.floats`, from the signs of the weights alone: every spike of
a positive weight comes, none of a negative one, at every timestep. They hold for every input, so a
threshold beyond them says that the numbers were read wrongly, or that the layer is of no use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..integer.floats import FloatLayer, FloatNeuron, FloatOperation
from ..integer.network import INPUT, InputSpec

Range = tuple[float, float]
"""Smallest and largest value of a map."""


@dataclass(frozen=True)
class Reach:
    """A layer's channel that comes nearest to firing: its largest membrane and its threshold, in
    units of the float network. always: all channels fire at every timestep."""

    name: str
    largest: float
    threshold: float
    never: bool
    always: bool


def reaches(layers: Sequence[FloatOperation], spec: InputSpec, timesteps: int,
            input_scale: float = 1.0) -> Iterator[Reach]:
    """The reach of every layer of weights that has a neuron."""
    ranges: dict[str, Range] = {INPUT: (0.0, ((1 << spec.bits) - 1) * input_scale)}
    for layer in layers:
        if not isinstance(layer, FloatLayer) or layer.neuron is None:
            continue
        low, high = _currents(layer, ranges)
        neuron = layer.neuron
        top = _largest(neuron, high, timesteps)
        fires = top > neuron.theta if neuron.strict else top >= neuron.theta
        always = _always(neuron, low)
        if always:
            ranges[layer.name] = (1.0, 1.0)
        nearest = int((top / neuron.theta).argmax())
        yield Reach(layer.name, float(top[nearest]), float(neuron.theta[nearest]),
                    not bool(fires.any()), always)


def notes(layers: Sequence[FloatOperation], spec: InputSpec, timesteps: int,
          input_scale: float = 1.0, question: str = "is its threshold right?") -> list[str]:
    """A line for every layer that cannot fire, or cannot rest though it has weights."""
    said = []
    weighted = {layer.name for layer in layers if isinstance(layer, FloatLayer)
                and any(bool(s.weight.any()) for s in layer.synapses)}
    for reach in reaches(layers, spec, timesteps, input_scale):
        where = f"layer {reach.name!r}"
        if reach.never:
            said.append(f"{where} cannot fire: the largest membrane in {timesteps} timesteps is "
                        f"{reach.largest:.4g} of threshold {reach.threshold:.4g}; {question}")
        elif reach.always and reach.name in weighted:
            said.append(f"{where} fires at every timestep, whatever the input; {question}")
    return said


def _currents(layer: FloatLayer, ranges: Mapping[str, Range]) -> tuple[Tensor, Tensor]:
    """Smallest and largest current [C] of a layer."""
    low, high = layer.bias.clone(), layer.bias.clone()
    for synapses in layer.synapses:
        pairs = [ranges.get(name, (0.0, 1.0)) for name in synapses.sources]
        pooled = synapses.sum_pool[0] * synapses.sum_pool[1]
        least, most = (pooled * sum(pair[k] for pair in pairs) for k in (0, 1))
        weight = synapses.weight.flatten(1)
        up, down = weight.clamp_min(0).sum(1), weight.clamp_max(0).sum(1)
        if least:       # zeros around the map may take a spike's place
            least = least if synapses.padding == (0, 0) else 0.0
        low, high = low + up * least + down * most, high + up * most + down * least
    return low, high


def _largest(neuron: FloatNeuron, high: Tensor, timesteps: int) -> Tensor:
    """Largest membrane [C] that a neuron which has not fired yet can have."""
    v = torch.zeros_like(high) if neuron.reset is None else neuron.reset
    top = torch.full_like(high, -torch.inf)
    for _ in range(timesteps):
        v = neuron.decay * v + high
        top = torch.maximum(top, v)
    return top


def _always(neuron: FloatNeuron, low: Tensor) -> bool:
    """After every spike the smallest current fires it again (a soft reset leaves 0 or more)."""
    v = low if neuron.reset is None else neuron.decay * neuron.reset + low
    return bool((v > neuron.theta if neuron.strict else v >= neuron.theta).all())
