"""A NIR graph as a module that computes the graph's own equations, timestep by timestep.

What the equations are in timesteps a `Dialect` says (`sw.imports.dialects`); here they are computed
in float64, so that a network of whole numbers stays one. `sw.imports.reader` reads the module as it
reads any other.
"""

from __future__ import annotations

import graphlib
import math

import numpy as np
from torch import Tensor, nn

from ..errors import SpikeTicketError
from .dialects import Dialect
from .nir_neurons import NIRNeuron, Shape, habit, read_neuron
from .nir_nodes import MAX_NUMBERS, NEAREST, OrNode, PoolNode, read_node, text

MAX_MAP = 1 << 20
"""Neurons of one map: 64 channels of 128 x 128."""

MAX_COUNTED = 4096
"""Output neurons whose spikes a readout may count."""

MAX_DEPTH = 16
"""Graphs within graphs."""


class NIRModule(nn.Module):
    """forward: inputs [T, B, C, H, W] (features: [T, B, C, 1, 1]) to outputs [T, B, classes].

    Graphs within the graph are taken in: their nodes are named outer.inner. neurons: the neuron
    modules by node, whose path is its name ("training_" for what every module has). habits: notes
    on numbers that the dialect's library does not write. What I before the output adds up is given
    as it comes in. A pool whose neuron one spike fires is computed as the maximum that it is.
    """

    step_mode = "m"

    def __init__(self, nir, graph, how: Dialect):
        super().__init__()
        self.nir, self.how = nir, how
        self.nodes, edges = _taken_in(nir, graph)
        self.input, self.output = _ends(nir, graph.nodes)
        self.sources: dict[str, list[str]] = {k: [] for k in self.nodes}
        for a, b in edges:
            self.sources[b].append(a)
        self.order = _order(self.sources)
        self.neurons: dict[str, NIRNeuron] = {}
        self.habits: list[str] = []
        self.made: dict[str, nn.Module] = {}
        self.numbers = 0
        self.shapes: dict[str, Shape] = {}
        self.flat: set[str] = set()             # whose features lie in one axis
        self.spiking: set[str] = set()
        for key in self.order:
            self._add(key)
        if self.output not in self.shapes:
            raise SpikeTicketError("the output is not reached")
        read = self._read_from(self.output)
        self.order = [k for k in self.order if k in read]
        del self.nir, self.nodes                # so that the module can be copied
        for key, module in self.made.items():   # add_module takes no dots
            self._modules[f"{key}_" if hasattr(self, key) else key] = module

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 5:
            raise SpikeTicketError(f"the graph's module takes inputs [T, B, C, H, W], not "
                                   f"{list(x.shape)}")
        values: dict[str, Tensor] = {}
        for key in self.order:
            sources = self.sources[key]
            value = sum((values[s] for s in sources[1:]), values[sources[0]]) if sources else x
            module, shape = self.made.get(key), self.shapes[key]
            if len(shape) == 1 or key == self.output:
                value = value.flatten(2)        # a linear node's operand, too
            if isinstance(module, NIRNeuron):
                value = module.drive(value)
            values[key] = value if module is None else module(value)
        return values[self.output]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        shape = self.shapes[self.input]
        return (shape[0], 1, 1) if len(shape) == 1 else shape

    def _read_from(self, key: str) -> set[str]:
        """The nodes that lead to `key`, and itself."""
        found, waiting = set(), [key]
        while waiting:
            key = waiting.pop()
            if key not in found:
                found.add(key)
                waiting += self.sources[key]
        return found

    def _add(self, key: str) -> None:
        node = self.nodes[key]
        where = f"node {key!r} ({type(node).__name__})"
        try:
            module, shape, flat = self._made(key, node, where)
        except SpikeTicketError:
            raise
        except Exception as error:      # what arrays of any kind and shape raise
            raise SpikeTicketError(f"{where}: its numbers cannot be read ({type(error).__name__}: "
                                   f"{' '.join(str(error).split())[:120]})") from error
        if min(shape) < 1 or math.prod(shape) > MAX_MAP:
            raise SpikeTicketError(f"{where}: its map is {text(shape)}, empty or more than "
                                   f"{MAX_MAP} values")
        self.shapes[key] = shape
        if flat:
            self.flat.add(key)
        if module is not None:
            self.made[key] = module
            self.numbers += getattr(module, "numbers", 0)
        if self.numbers > MAX_NUMBERS:
            raise SpikeTicketError(f"{where}: {self.numbers} weights up to here (zeros of groups "
                                   f"count) are more than {MAX_NUMBERS}")

    def _made(self, key: str, node, where: str) -> tuple[nn.Module | None, Shape, bool]:
        nir, kind = self.nir, type(node)
        if key == self.input:
            return None, _input_shape(node, where), False
        shape, flat = self._operand(key, where)
        readers = [k for k, sources in self.sources.items() if key in sources]
        if not readers and key != self.output:
            raise SpikeTicketError(f"{where}: nothing reads it; a ticket has one output")
        if kind in (nir.Input, nir.Output):
            self._end(key, where, shape)
            return None, shape, flat
        if kind is nir.I and readers != [self.output]:
            raise SpikeTicketError(f"{where}: I is not supported there; the nearest is "
                                   f"{NEAREST['I']}")
        if kind in (nir.IF, nir.LIF, nir.CubaLIF, nir.Threshold):
            return self._neuron(key, node, where, shape), shape, flat
        return read_node(nir, node, where, shape, flat, self.how)

    def _operand(self, key: str, where: str) -> tuple[Shape, bool]:
        """Shape of the sum over the edges, and whether it is flat."""
        sources = self.sources[key]
        if not sources or any(s not in self.shapes for s in sources):
            raise SpikeTicketError(f"{where}: nothing leads to it from the input")
        shapes = {(self.shapes[s], s in self.flat) for s in sources}
        if len(shapes) > 1:
            raise SpikeTicketError(f"{where}: adds maps "
                                   f"{' and '.join(sorted(text(s) for s, _ in shapes))}; give all "
                                   "one shape")
        return shapes.pop()

    def _end(self, key: str, where: str, shape: Shape) -> None:
        """The graph's output, or an end of a graph within the graph."""
        spikes = all(s in self.spiking for s in self.sources[key])
        if key != self.output:
            if spikes and len(self.sources[key]) == 1:
                self.spiking.add(key)
        elif spikes and math.prod(shape) > MAX_COUNTED:
            raise SpikeTicketError(f"{where}: {math.prod(shape)} outputs are more than "
                                   f"{MAX_COUNTED}; end with a linear layer or a neuron per class")
        elif not spikes and max(shape[1:], default=1) > 1:
            raise SpikeTicketError(f"{where}: the output is a map {text(shape)}; end with a linear "
                                   "layer, or with an average over all positions")

    def _neuron(self, key: str, node, where: str, shape: Shape) -> nn.Module:
        neuron = read_neuron(self.nir, node, where, shape, self.how)
        self.spiking.add(key)
        pool = self.made.get(self.sources[key][0])
        if len(self.sources[key]) == 1 and isinstance(pool, PoolNode):
            before = self.sources[self.sources[key][0]]
            weight = 1.0 if pool.total else 1 / math.prod(pool.size)
            if len(before) == 1 and before[0] in self.spiking and neuron.fires_at_one_spike(weight):
                self.sources[key] = before
                return OrNode(pool)
        self.neurons[key] = neuron
        said = habit(self.nir, node, where, self.how)
        self.habits += [said] if said else []
        return neuron


def _taken_in(nir, graph, prefix: str = "", depth: int = 0,
              ) -> tuple[dict[str, object], list[tuple[str, str]]]:
    """Nodes and edges with those of graphs within the graph, as outer.inner."""
    if depth > MAX_DEPTH:
        raise SpikeTicketError(f"node {prefix[:60]!r}: graphs within graphs, {depth} deep")
    nodes: dict[str, object] = {}
    edges: list[tuple[str, str]] = []
    ends: dict[str, tuple[str, str]] = {}
    for key, node in graph.nodes.items():
        name = f"{prefix}{key}"
        if isinstance(node, nir.NIRGraph):
            inner, between = _taken_in(nir, node, f"{name}.", depth + 1)
            first, last = _ends(nir, node.nodes, f"node {name!r} (NIRGraph): ")
            ends[key] = (f"{name}.{first}", f"{name}.{last}")
            edges += between
        else:
            inner, ends[key] = {name: node}, (name, name)
        double = nodes.keys() & inner.keys()
        if double:
            raise SpikeTicketError(f"two nodes are named {min(double)!r}; rename one")
        nodes.update(inner)
    seen = set()
    for source, target in graph.edges:
        for end in (source, target):
            if end not in ends:
                raise SpikeTicketError(f"edge {prefix + str(source)!r} -> {prefix + str(target)!r}:"
                                       f" {end!r} is no node")
        if (source, target) in seen:
            raise SpikeTicketError(f"edge {prefix + source!r} -> {prefix + target!r} is there "
                                   "twice")
        seen.add((source, target))
        edges.append((ends[source][1], ends[target][0]))
    return nodes, edges


def _ends(nir, nodes: dict[str, object], where: str = "") -> tuple[str, str]:
    """The one Input and the one Output."""
    found = []
    for kind in (nir.Input, nir.Output):
        keys = [k for k, node in nodes.items() if isinstance(node, kind)]
        if len(keys) != 1:
            raise SpikeTicketError(f"{where}{len(keys)} {kind.__name__} nodes ({', '.join(keys)}); "
                                   "a ticket has one")
        found += keys
    return found[0], found[1]


def _order(sources: dict[str, list[str]]) -> list[str]:
    """Nodes so that every edge leads forward."""
    try:
        return list(graphlib.TopologicalSorter(sources).static_order())
    except graphlib.CycleError as error:
        loop = " -> ".join(map(repr, reversed(error.args[1])))
        raise SpikeTicketError(f"recurrent ({loop}); the nearest is a feed-forward graph: "
                               "remove the edge that leads back") from error


def _input_shape(node, where: str) -> Shape:
    shape = [int(n) for n in np.asarray(node.input_type["input"]).ravel()]
    if len(shape) in (2, 4) and shape[0] == 1:      # Norse writes its batch of one
        shape = shape[1:]
    if len(shape) not in (1, 3) or not all(1 <= n <= 1 << 16 for n in shape):
        raise SpikeTicketError(f"{where}: shape {shape} is not [features] or "
                               "[channels, height, width]; leave out batch and time")
    return tuple(shape)
