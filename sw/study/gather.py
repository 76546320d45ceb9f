"""Ours: row gather. The compiled network on the cycle model of the core, memories made large."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hw.config import CoreConfig

from ..compile.compiler import DoesNotFit, compile_network
from ..compile.image import Image
from ..core import cycles
from ..integer import reference
from ..integer.network import INPUT, InputSpec, Layer, Network, Synapses
from .workloads import Workload

NAME = "row gather (ours)"
CUT = "cut"
"""Name of the empty readout that ends a piece of a network."""
SCANNING = "row gather, reads silent words too"


def roomy(config: CoreConfig) -> CoreConfig:
    """The same engines with memories that hold every workload."""
    return replace(config, map_words=1 << 14, weight_words=1 << 16, program_words=1 << 14,
                   taps=128)


@dataclass(frozen=True, eq=False)
class Run:
    """images: of the network, or of its pieces one after another. cycles: of all inputs together.
    useful: of the workload, not counting updates of outputs that a pool drops."""

    images: list[Image]
    cycles: cycles.Cycles
    useful: int

    @property
    def rate(self) -> float:
        """Useful updates per cycle."""
        return self.useful / self.cycles.total

    @property
    def fraction(self) -> float:
        """Useful fraction of the accumulate slots."""
        return self.rate / self.cycles.config.slots


def run(workload: Workload, config: CoreConfig, skip_silent: bool = True) -> Run:
    """Compile the workload and replay its spikes.

    skip_silent: False for a core that reads map words without a spike, too.
    """
    images, total = [], cycles.Cycles(config)
    for image, spikes in _compiled(workload, roomy(config)):
        images.append(image)
        for n in range(workload.images):
            one = {name: values[:, n] for name, values in spikes.items()}
            total.layers += cycles.replay(image, one, skip_silent=skip_silent).layers
    return Run(images, total, workload.useful)


def _compiled(workload: Workload, config: CoreConfig) -> list[tuple[Image, dict]]:
    """Images and their spikes: of the whole network, or of its halves if it is too large."""
    network, spikes = workload.network, workload.spikes
    rates = reference.activity(network, spikes)
    try:
        image = compile_network(network, config, rates)
    except DoesNotFit:
        if sum(layer.name != CUT for layer in network.layers) == 1 or not _is_chain(network):
            raise
        return [part for half in _halves(workload) for part in _compiled(half, config)]
    return [(image, spikes)]


def _is_chain(network: Network) -> bool:
    """Whether every layer reads the one before, and nothing else."""
    before = (INPUT, *(layer.name for layer in network.layers))
    return all(layer.sources == (name,) for layer, name in zip(network.layers, before[:-1],
                                                               strict=True))


def _halves(workload: Workload) -> tuple[Workload, Workload]:
    """A chain of layers cut in two with equal weights; the first half ends in an empty readout."""
    network, spikes = workload.network, workload.spikes
    sizes = np.cumsum([sum(np.count_nonzero(s.weight) for s in layer.synapses)
                       for layer in network.layers if layer.name != CUT])
    cut = int(np.clip(np.searchsorted(sizes, sizes[-1] / 2) + 1, 1, len(sizes) - 1))
    last = network.layers[cut - 1]
    shape = network.shapes()[last.name]
    zero = np.zeros(1, np.int64)
    end = Layer(CUT, (Synapses(np.zeros((1, shape.channels, 1, 1), np.int8), (last.name,)),),
                zero, zero, None)
    first = replace(network, layers=(*network.layers[:cut], end))
    renamed = tuple(replace(layer, synapses=tuple(
        replace(s, sources=tuple(INPUT if name == last.name else name for name in s.sources))
        for s in layer.synapses)) for layer in network.layers[cut:])
    spec = InputSpec(shape.channels, shape.height, shape.width, 1, static=False)
    second = Network(spec, network.timesteps, renamed, network.name)
    moved = {INPUT: spikes[last.name]} | {layer.name: spikes[layer.name]
                                          for layer in renamed if layer.name in spikes}
    return Workload(workload.key, workload.title, first, spikes), Workload(
        workload.key, workload.title, second, moved)
