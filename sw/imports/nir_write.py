"""From the integer network to a NIR graph.

Integers are stored as floats. A neuron fires at v > v_threshold in NIR and at v >= threshold here,
so the threshold is stored one float32 step lower: no membrane of the network lies between, and a
library that compares with >= gives the same spikes. Decays other than 1/2^m are exact here
only (the core rounds the membrane down), so other simulators may differ by rare spikes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..errors import SpikeTicketError
from ..integer.gate import Gate, Select
from ..integer.network import INPUT, LEAK_ONE, Layer, Network, Shape, Synapses
from ..integer.shapes import Pair
from ..tickets.checkpoint import replace
from . import nir_file
from .nir_graph import METADATA


def to_nir(network: Network, path: str | Path | None = None, *, dt: float = 1e-4,
           pools: str = "sum"):
    """The nir.NIRGraph of a ticket's network; also written to `path` if it is given.

    dt: timestep; tau and r are chosen so that forward Euler steps of dt give the network's
        integers. pools: "sum" (SumPool2d: Norse, sinabs, this project) or "avg" (AvgPool2d:
        SpikingJelly, snnTorch; exact for sizes 2, 4, 8 and 16).

    A layer's node has its name, its weights the name with .w0, .w1. An OR pool is a pool and an IF
    neuron that one spike fires; `from_nir` makes an OR pool of it again. Raises SpikeTicketError
    for what NIR cannot say: attention, gates, max pools of currents, soft resets.
    """
    nir = nir_file.import_nir()
    if pools not in ("sum", "avg"):
        raise SpikeTicketError(f"pools {pools!r} is not 'sum' or 'avg'")
    if not 0 < dt < 1:
        raise SpikeTicketError(f"dt {dt} is not a time between 0 and 1")
    read = {name for layer in network.layers for name in getattr(layer, "sources", ())}
    for layer in network.layers[:-1]:
        if isinstance(layer, Layer) and layer.name not in read:
            raise SpikeTicketError(f"layer {layer.name!r}: nothing reads it, and NIR would make it "
                                   "an output; remove the layer")
    writing = _Writing(nir, network, dt, pools)
    for layer in network.layers:
        writing.add(layer)
    described = {
        "timesteps": network.timesteps, "input_bits": network.input.bits,
        "static": network.input.static, "dt": dt, "name": network.name,
        "labels": list(network.labels), "readout": network.layers[-1].name,
        "bits": {layer.name: [_width(s) for s in layer.synapses] for layer in network.layers}}
    # nir 1.0.8 infers shapes as if every kernel were square.
    square = all(k == w for _, syn in network.synapses() for k, w in (syn.weight.shape[2:],))
    graph = nir.NIRGraph(writing.nodes, writing.edges, type_check=square,
                         metadata={METADATA: json.dumps(described, sort_keys=True)})
    if path is not None:
        try:
            replace(Path(path), lambda part: nir.write(part, graph))
        except OSError as error:
            raise SpikeTicketError(f"{path}: graph cannot be written ({error})") from error
    return graph


def _width(syn: Synapses) -> int:
    """Bits with which `from_nir` keeps the weights: it quantises to a symmetric range."""
    lowest = -(1 << syn.bits - 1)
    return syn.bits + (1 < syn.bits < 8 and bool((syn.weight == lowest).any()))


class _Writing:
    """Nodes and edges in the making; `ends` names the node whose output is a map."""

    def __init__(self, nir, network: Network, dt: float, pools: str):
        self.nir, self.network, self.dt, self.pools = nir, network, dt, pools
        self.shapes = network.shapes()
        self.nodes: dict[str, object] = {}
        self.edges: list[tuple[str, str]] = []
        self.ends = {INPUT: "input"}
        shape = self.shapes[INPUT]
        self.nodes["input"] = nir.Input(np.array([shape.channels, shape.height, shape.width]))

    def add(self, layer: Layer | Gate | Select) -> None:
        where = f"layer {layer.name!r}"
        if not isinstance(layer, Layer) or layer.attention is not None:
            kind = type(layer).__name__ if not isinstance(layer, Layer) else "attention"
            raise SpikeTicketError(f"{where}: NIR has no node for {kind.lower()}; export a network "
                                   "of convolutions and linear layers")
        if layer.pool is not None and layer.pool.mode == "max":
            raise SpikeTicketError(f"{where}: NIR has no max pool of currents; train with the pool "
                                   "behind the neuron (OR)")
        if "/" in layer.name:
            raise SpikeTicketError(f"{where}: a name with '/' cannot be a NIR node's; rename it")
        ends = [self._weights(layer, j, syn) for j, syn in enumerate(layer.synapses)]
        if layer.neuron is None:
            self._readout(layer, ends)
        else:
            self._neuron(layer, ends, where)

    def _weights(self, layer: Layer, j: int, syn: Synapses) -> str:
        """The nodes of one connection; the name of its last."""
        sources = [self.ends[name] for name in syn.sources]
        weight = syn.weight.astype(np.float32)
        source = self.shapes[syn.sources[0]]
        if syn.sum_pool != (1, 1):
            pool = f"{layer.name}.pool{j}"
            self._node(pool, self._pool(syn.sum_pool, syn.sum_pool, (0, 0)), sources)
            sources = [pool]
            if self.pools == "avg":
                weight = weight * np.float32(syn.sum_pool[0] * syn.sum_pool[1])
        bias = layer.bias if j == 0 else np.zeros_like(layer.bias)
        size = (source.height // syn.sum_pool[0], source.width // syn.sum_pool[1])
        name = f"{layer.name}.w{j}"
        self._node(name, self.nir.Conv2d(size, weight, syn.stride, syn.padding, 1, 1,
                                         bias.astype(np.float32)), sources)
        return name

    def _neuron(self, layer: Layer, ends: list[str], where: str) -> None:
        spec = layer.neuron
        if spec.reset == "soft":
            raise SpikeTicketError(f"{where}: NIR resets to a value, it has no soft reset; train "
                                   "with v_reset=0")
        syn = layer.synapses[0]
        plain = Layer(layer.name, layer.synapses, layer.bias, layer.threshold, spec)
        shape = self.network.layer_shape(plain, self.shapes)    # before the pool
        below = np.nextafter(layer.threshold.astype(np.float32), np.float32(-np.inf))
        full = (len(below), shape.height, shape.width)

        def everywhere(value: float) -> np.ndarray:
            return np.full(full, value, np.float32)

        theta = np.broadcast_to(below[:, None, None], full).copy()
        if spec.leak == LEAK_ONE:
            node = self.nir.IF(everywhere(1 / self.dt), theta, everywhere(spec.v_reset))
        else:
            lost = 1 - spec.leak / LEAK_ONE
            node = self.nir.LIF(everywhere(self.dt / lost), everywhere(1 / lost), everywhere(0),
                                theta, everywhere(spec.v_reset))
        assert syn.weight.shape[0] == len(below)
        self._node(layer.name, node, ends)
        self.ends[layer.name] = layer.name
        if layer.pool is not None:
            self._or_pool(layer, self.shapes[layer.name])

    def _or_pool(self, layer: Layer, shape: Shape) -> None:
        pool = layer.pool
        self._node(f"{layer.name}.window", self._pool(pool.size, pool.stride, pool.padding),
                   [layer.name])
        full = (shape.channels, shape.height, shape.width)
        half = 0.5 if self.pools == "sum" else 0.5 / (pool.size[0] * pool.size[1])
        self._node(f"{layer.name}.or", self.nir.IF(
            np.full(full, 1 / self.dt, np.float32), np.full(full, half, np.float32),
            np.zeros(full, np.float32)), [f"{layer.name}.window"])
        self.ends[layer.name] = f"{layer.name}.or"

    def _readout(self, layer: Layer, ends: list[str]) -> None:
        shape = self.shapes[layer.name]
        if (shape.height, shape.width) != (1, 1):
            window = np.array([shape.height, shape.width])
            kind = self.nir.SumPool2d if self.pools == "sum" else self.nir.AvgPool2d
            self._node(f"{layer.name}.sum", kind(window, window, np.array([0, 0])), ends)
            ends = [f"{layer.name}.sum"]
        self._node(f"{layer.name}.flat", self.nir.Flatten(
            np.array([shape.channels, 1, 1]), 0, -1), ends)
        self._node("output", self.nir.Output(np.array([shape.channels])), [f"{layer.name}.flat"])

    def _pool(self, size: Pair, stride: Pair, padding: Pair):
        kind = self.nir.SumPool2d if self.pools == "sum" else self.nir.AvgPool2d
        return kind(*(np.array(n) for n in (size, stride, padding)))

    def _node(self, name: str, node: object, sources: list[str]) -> None:
        if name in self.nodes:
            raise SpikeTicketError(f"layer name {name!r} is needed for a node of NIR; rename it")
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
