"""Reading a module's forward function: torch.fx, or else the order of its modules."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import base, neuron
from torch import fx, nn

from ..errors import SpikeTicketError
from ..integer.floats import FloatOperation
from .lowering import Bits, Lowering, Size, Value
from .modules import CONTAINERS, apply_module, flatten, global_average

LIBRARIES = ("torch.nn", "spikingjelly.activation_based.layer",
             "spikingjelly.activation_based.neuron")
"""Where the modules come from that are not looked into."""

WORDS = {operator.add: "add", operator.iadd: "add", torch.add: "add", torch.flatten: "flatten",
         torch.mean: "mean", torch.sum: "sum", torch.unsqueeze: "unsqueeze",
         F.dropout: "same", F.adaptive_avg_pool2d: "adaptive_avg_pool2d",
         F.max_pool2d: "max_pool2d", F.avg_pool2d: "avg_pool2d",
         "float": "same", "contiguous": "same", "clone": "same", "add_": "add"}
"""Functions and methods of a forward function, by what they do; other methods by their name."""


@dataclass(frozen=True)
class _Traced:
    """A value and its number of axes before the channels: batch, or time and batch."""

    value: Value
    lead: int


class Tracer(fx.Tracer):
    """Keeps every module whole that is a node of the network; custom modules are looked into."""

    def is_leaf_module(self, m: nn.Module, qualified_name: str) -> bool:
        library = type(m).__module__.startswith(LIBRARIES)
        return isinstance(m, base.MemoryModule) or library or isinstance(m, CONTAINERS)


def read(model: nn.Module, shape: Size, bits: Bits,
          ) -> tuple[list[FloatOperation], int | None]:
    """(layers, timesteps if the forward function has them)."""
    multi = step_mode(model) == "m"
    try:
        graph = Tracer().trace(model)
    except Exception as error:      # whatever a foreign forward function raises under tracing
        return _in_order(model, shape, bits, error), None
    return _Reading(model, graph, multi, Lowering(shape, bits)).layers()


def step_mode(model: nn.Module) -> str:
    """The step mode that all neurons share."""
    modes = {m.step_mode for m in model.modules() if isinstance(m, neuron.BaseNode)}
    if len(modes) > 1:
        raise SpikeTicketError("neurons are in step modes 's' and 'm'; set one with "
                               "functional.setstep_mode(net, 'm')")
    if not modes:
        raise SpikeTicketError(f"{type(model).__name__} has no SpikingJelly neuron; use "
                               "neuron.LIFNode or neuron.IFNode")
    return modes.pop()


def _in_order(model: nn.Module, shape: Size, bits: Bits,
              error: Exception) -> list[FloatOperation]:
    low = Lowering(shape, bits)
    value: Value = low.input()
    reason = " ".join(str(error).split())[:120]
    where = f"{type(model).__name__} (in the order of its modules; torch.fx says: {reason})"
    for name, module in _nodes(model, ""):
        value = apply_module(low, module, f"{where}, {name}", name, value)
    return low.readout(where, value)


def _nodes(model: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """Modules that are not looked into, by name, in the order in which they were made."""
    for key, child in model.named_children():
        if Tracer().is_leaf_module(child, key) and not isinstance(child, CONTAINERS):
            yield prefix + key, child
        else:
            yield from _nodes(child, f"{prefix}{key}.")


class _Reading:
    """Walks a traced graph; `lead` counts the axes before the channels."""

    def __init__(self, model: nn.Module, graph: fx.Graph, multi: bool, low: Lowering):
        self.model, self.graph, self.low = model, graph, low
        self.timesteps: int | None = None
        self.lead = 2 if multi and not makes_time(graph) else 1
        self.made: dict[fx.Node, _Traced] = {}
        self.used: set[str] = set()

    def layers(self) -> tuple[list[FloatOperation], int | None]:
        for node in self.graph.nodes:
            if node.op == "placeholder":
                if self.made:
                    raise SpikeTicketError(f"forward takes a second input {node.target!r}; only "
                                           "one input can be imported")
                self.made[node] = _Traced(self.low.input(), self.lead)
            elif node.op == "output":
                result = node.args[0]
                if not isinstance(result, fx.Node):
                    raise SpikeTicketError("forward returns more than one value; return the "
                                           "output only")
                return self.low.readout("output", self.made[result].value), self.timesteps
            elif node.users:
                self.made[node] = self._step(node)
        raise AssertionError("a traced graph ends with its output")

    def _step(self, node: fx.Node) -> _Traced:
        where = f"{node.name!r} of forward"
        values = [self._value(a, where) for a in node.args if isinstance(a, fx.Node)]
        if node.op == "get_attr" or not values:
            raise SpikeTicketError(f"{where}: {node.target} is no module and no input; only "
                                   "modules, sums, pools, flatten and means are supported")
        first = values[0]
        if node.op == "call_module":
            module, path = self.model.get_submodule(node.target), str(node.target)
            if path in self.used:
                raise SpikeTicketError(f"module {path!r} is called twice; trace one timestep (no "
                                       "loop over time in forward), or give every use its own "
                                       "module")
            self.used.add(path)
            sole = len(node.args[0].users) == 1
            value = apply_module(self.low, module, f"module {path!r}", path, first.value, sole,
                                 first.lead == 1)
            return _Traced(value, first.lead)
        return self._function(node, where, values)

    def _value(self, node: fx.Node, where: str) -> _Traced:
        if node not in self.made:
            raise SpikeTicketError(f"{where}: {node.target} is not supported there")
        return self.made[node]

    @staticmethod
    def _word(node: fx.Node) -> str:
        if node.op not in ("call_function", "call_method"):
            return ""
        known = WORDS.get(node.target)
        return known or getattr(node.target, "__name__", str(node.target))

    def _function(self, node: fx.Node, where: str, values: list[_Traced]) -> _Traced:
        word, first, rest = self._word(node), values[0], list(node.args[1:])
        if word == "same":
            return first
        if word == "add" and 0 in node.args:        # sum() begins with 0
            return first
        if word == "add" and len(values) == 2:
            return replace(first, value=self.low.add(where, first.value, values[1].value))
        if word == "flatten":
            start = node.kwargs.get("start_dim", rest[0] if rest else 0)
            end = node.kwargs.get("end_dim", rest[1] if len(rest) > 1 else -1)
            value = flatten(self.low, where, first.value, start, end, first.lead)
            return replace(first, value=value)
        if word in ("mean", "sum"):
            return self._mean(word, node, where, first, rest)
        if word == "unsqueeze" and 0 in (*rest, node.kwargs.get("dim")):
            return replace(first, lead=2)
        if word in ("repeat", "expand"):        # with one size more than axes they add one
            self.timesteps = _repeats(rest, where)
            return replace(first, lead=2)
        if word.endswith("_pool2d"):
            return self._pool(word, node, where, first, rest)
        raise SpikeTicketError(f"{where}: {word} is not supported; use modules, sums, pools, "
                               "flatten, and the mean over time or all positions")

    def _mean(self, word: str, node: fx.Node, where: str, traced: _Traced, rest: list) -> _Traced:
        axes = node.kwargs.get("dim", rest[0] if rest else None)
        axes = (axes,) if isinstance(axes, int) else axes
        value, lead = traced.value, traced.lead
        rank = lead + (1 if value.flat else 3)
        if axes is None or not all(isinstance(n, int) for n in axes):
            raise SpikeTicketError(f"{where}: {word} over all axes; give the time axis, dim=0, or "
                                   "the positions")
        axes = {n + rank if n < 0 else n for n in axes}
        positions = {rank - 2, rank - 1} if not value.flat else set()
        if lead == 2 and 0 in axes:
            value, lead, axes = self.low.over_time(value), 1, axes - {0}
        if positions and positions <= axes:
            pooled = global_average(self.low, where, value)
            keep = node.kwargs.get("keepdim", len(rest) > 1 and rest[1])
            value, axes = pooled if keep else self.low.flatten(pooled), axes - positions
        if axes:
            raise SpikeTicketError(f"{where}: {word} over axes {sorted(axes)}; only time and all "
                                   "positions can be averaged")
        return _Traced(value, lead)

    def _pool(self, word: str, node: fx.Node, where: str, traced: _Traced, rest: list) -> _Traced:
        kind = {"max_pool2d": nn.MaxPool2d, "avg_pool2d": nn.AvgPool2d,
                "adaptive_avg_pool2d": nn.AdaptiveAvgPool2d}[word]
        options = {k: v for k, v in node.kwargs.items() if k != "input"}
        value = apply_module(self.low, kind(*rest, **options), where, node.name, traced.value,
                             len(node.args[0].users) == 1)
        return replace(traced, value=value)


def _repeats(sizes: list, where: str) -> int:
    sizes = list(sizes[0]) if sizes and not isinstance(sizes[0], int) else sizes
    if not sizes or not all(isinstance(n, int) for n in sizes) or any(
            n not in (1, -1) for n in sizes[1:]):
        raise SpikeTicketError(f"{where}: repeats by {sizes}; only the time axis can be repeated, "
                               "repeat(T, 1, 1, 1, 1)")
    return sizes[0]


def makes_time(graph: fx.Graph) -> bool:
    """The forward function repeats its input over time itself."""
    return any(_Reading._word(n) in ("unsqueeze", "repeat", "expand") for n in graph.nodes)
