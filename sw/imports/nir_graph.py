"""From a NIR graph to the integer network."""

from __future__ import annotations

import graphlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import SpikeTicketError
from ..integer.floats import FloatNeuron
from ..integer.network import INPUT, MAX_TIMESTEPS, InputSpec
from . import nir_file
from .dialects import DIALECTS, Dialect, by_channel, dialect, uniform, unsaid
from .integers import Imported, build
from .lowering import Bits, Currents, Lowering, Size, Spikes, Value
from .nir_module import NIRModule
from .weights import normal_conv, one, pair

METADATA = "spiketicket"
"""Key of what `sw.imports.to_nir` writes beside a graph."""

NEAREST = {
    "Conv1d": "Conv2d on maps of height 1",
    "CubaLI": "no neuron before the output: the readout sums its currents over the timesteps",
    "CubaLIF": "CubaLIF with tau_syn = dt, or LIF, whose input is not filtered",
    "Delay": "no delay; timesteps are the same everywhere",
    "I": "I before the output (it is the readout's sum), or IF",
    "LI": "no neuron before the output: the readout sums its currents over the timesteps",
    "NIRGraph": "its nodes in the graph itself",
}
"""Nearest supported form of nodes that are not."""


def from_nir(graph: object, *, timesteps: int | None = None, dialect_of: str = "nir",
             dt: float | None = None, fires: str | None = None, reset: str | None = None,
             norm_input: bool | None = None, confirm: bool = False,
             bits: Bits | None = None, input_bits: int | None = None,
             static: bool | None = None, input_scale: float | None = None,
             name: str | None = None, labels: tuple[str, ...] = ()) -> Imported:
    """Import a NIR graph.

    graph: a nir.NIRGraph or the path of a file that nir.write made.
    timesteps: 1 to 16; NIR graphs have none, so it must be given (exported tickets know theirs).
    dialect_of: the library that wrote the graph, one of `sw.imports.dialects.DIALECTS`, or "nir"
        for the words of NIR's specification; dt, fires and reset replace parts of it, norm_input
        is that of sinabs' neurons.
    confirm: what the notes say about things that the file does not hold is right; they are left
        out then, as those are that dt, reset and norm_input answer.
    bits: of the weights, 4, or one width by layer name (the neuron's node; "readout").
    input_bits, static: see `sw.integer.network.InputSpec`; 8, False. input_scale: float value of
    one
        integer input unit; 1/255 for static inputs, 1 for others.

    Raises SpikeTicketError naming the node that is not supported and the nearest form that is.
    """
    nir = nir_file.import_nir()
    where = "graph"
    if isinstance(graph, str | Path):
        where = str(graph)
        graph = nir_file.read(graph)
    if not isinstance(graph, nir.NIRGraph):
        raise SpikeTicketError(f"{type(graph).__name__} is not a nir.NIRGraph or a path")
    try:
        known = _described(graph)
        dt = known["dt"] if dt is None and dialect_of == "nir" else dt
        how = dialect(dialect_of, dt=dt, fires=fires, reset=reset, norm_input=norm_input,
                      confirm=confirm)
        given = {"timesteps": timesteps, "bits": bits, "input_bits": input_bits,
                 "static": static, "name": name, "labels": labels or None}
        known.update((k, v) for k, v in given.items() if v is not None)
        if known["timesteps"] is None:
            raise SpikeTicketError("NIR graphs hold no number of timesteps; give timesteps "
                                   f"(--timesteps), 1 to {MAX_TIMESTEPS}")
        if input_scale is None:
            input_scale = 1 / 255 if known["static"] and not known["exported"] else 1.0
        module = NIRModule(nir, graph, how)
        reading = _Reading(nir, graph, how, known["bits"], known["readout"])
        layers = reading.layers()
        spec = InputSpec(*reading.shape, bits=known["input_bits"], static=known["static"])
        imported = build(layers, spec, known["timesteps"], input_scale=input_scale,
                         name=known["name"], labels=known["labels"])
    except SpikeTicketError as error:
        raise SpikeTicketError(f"{where}: {error}") from error
    said = () if confirm else (*module.habits, *_open(module, known))
    return replace(imported, notes=(*imported.notes, *said),
                   facts={"source": "nir", "dialect": how.says})


def _open(module: NIRModule, known: dict) -> list[str]:
    """Notes on what the file does not hold, as far as it can change a spike."""
    if known["exported"]:           # its dt is in the metadata, and either comparison is right
        return []
    neurons = module.neurons.values()
    kinds = set().union(*(n.kinds for n in neurons)) if neurons else set()
    if any(n.dt_fits for n in neurons):
        kinds -= {"dt"}
    if known["timesteps"] == 1:     # nothing is left of a neuron's first timestep
        kinds -= {"reset"}
    return unsaid(module.how, kinds)


def _described(graph) -> dict:
    """Defaults, or what an exported ticket says about itself."""
    known = {"timesteps": None, "bits": 4, "input_bits": 8, "static": False, "name": "network",
             "labels": (), "readout": "readout", "exported": False, "dt": None}
    text = (graph.metadata or {}).get(METADATA)
    if text is None:
        return known
    try:
        said = json.loads(text if isinstance(text, str) else bytes(text))
        bits = {str(k): [int(b) for b in v] for k, v in said["bits"].items()}
        ok = all(type(said[k]) is int for k in ("timesteps", "input_bits"))
        ok &= all(1 <= b <= 8 for v in bits.values() for b in v) and type(said["static"]) is bool
        dt = float(said.get("dt", DIALECTS["nir"].dt))      # files of older versions lack it
        labels = tuple(map(str, said["labels"]))
        said = {**{k: said[k] for k in ("timesteps", "input_bits", "static")},
                **{k: str(said[k]) for k in ("name", "readout")}}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SpikeTicketError(f"metadata {METADATA!r} is damaged "
                               f"({type(error).__name__}: {error})") from error
    if not ok:
        raise SpikeTicketError(f"metadata {METADATA!r} is damaged: {str(text)[:80]}")
    return {**said, "bits": bits, "labels": labels, "exported": True, "dt": dt}


@dataclass(frozen=True)
class _Neuron:
    """A NIR neuron in timesteps: v = kept v + gain x; [C] above rest: theta, reset; soft."""

    kept: float
    gain: np.ndarray
    theta: np.ndarray
    reset: np.ndarray
    soft: bool
    offset: np.ndarray


class _Reading:
    """Walks a graph in topological order; a node's input is the sum over its edges."""

    def __init__(self, nir, graph, how: Dialect, bits: Bits, readout: str = "readout"):
        self.nir, self.graph, self.how, self.readout = nir, graph, how, readout
        self.order = _order(graph)
        inputs = [k for k, n in graph.nodes.items() if isinstance(n, nir.Input)]
        outputs = [k for k, n in graph.nodes.items() if isinstance(n, nir.Output)]
        for kind, found in (("Input", inputs), ("Output", outputs)):
            if len(found) != 1:
                raise SpikeTicketError(f"{len(found)} {kind} nodes ({', '.join(found)}); a ticket "
                                       "has one")
        self.input, self.output = inputs[0], outputs[0]
        self.readers = {k: sum(a == k for a, _ in graph.edges) for k in graph.nodes}
        self.node_of: dict[str, str] = {}
        self.shape = _input_shape(graph.nodes[self.input], f"node {self.input!r} (Input)")
        self.low = Lowering(self.shape, bits)

    def layers(self) -> list:
        values: dict[str, Value] = {}
        readers = self.readers
        for key in self.order:
            node = self.graph.nodes[key]
            where = f"node {key!r} ({type(node).__name__})"
            if key == self.input:
                values[key] = self.low.input()
                continue
            sources = [a for a, b in self.graph.edges if b == key]
            if not sources or any(a not in values for a in sources):
                raise SpikeTicketError(f"{where}: nothing leads to it from the input")
            value = values[sources[0]]
            for source in sources[1:]:
                value = self.low.add(where, value, values[source])
            if key == self.output:
                return self.low.readout(where, value, self.readout)
            if not readers[key]:
                raise SpikeTicketError(f"{where}: nothing reads it; a ticket has one output")
            values[key] = self._apply(key, node, where, value)
        raise SpikeTicketError("the output is not reached")

    def _apply(self, key: str, node, where: str, value: Value) -> Value:
        nir, low = self.nir, self.low
        kind = type(node)
        if kind is nir.Conv2d:
            weight, stride, padding = normal_conv(
                _tensor(node.weight), where, stride=node.stride, padding=node.padding,
                dilation=node.dilation, groups=int(np.asarray(node.groups)))
            return low.weigh(where, value, weight, _tensor(node.bias), stride, padding)
        if kind in (nir.Affine, nir.Linear):
            bias = _tensor(node.bias) if kind is nir.Affine else None
            return low.linear(where, value, _tensor(node.weight), bias)
        if kind is nir.Scale:
            scale = _tensor(by_channel(_array(node.scale), value.shape, where, "scale"))
            return low.affine(where, value, scale, torch.zeros_like(scale))
        if kind in (nir.AvgPool2d, nir.SumPool2d):
            return self._pool(node, where, value, kind is nir.SumPool2d)
        if kind is nir.Flatten:
            return self._flatten(node, where, value)
        if kind is nir.I:
            return self._integrator(key, node, where, value)
        if kind in (nir.IF, nir.LIF, nir.CubaLIF, nir.Threshold):
            return self._fire(key, where, value, self._neuron(node, where, value.shape))
        if kind is nir.NIRGraph:
            _order(node, f"{where}: ")               # recurrence has its own message
        name = kind.__name__
        hint = NEAREST.get(name, "one of the nodes in the table of docs/imports.md")
        raise SpikeTicketError(f"{where}: {name} is not supported; the nearest is {hint}")

    def _pool(self, node, where: str, value: Value, total: bool) -> Value:
        numbers = {k: _array(getattr(node, k)) for k in ("kernel_size", "stride", "padding")}
        everything = pair(numbers["kernel_size"], where, "kernel_size") == value.shape[1:]
        if isinstance(value, Currents) and everything:
            return self.low.all_positions(where, value, total)
        size, stride, padding = (one(v, where, k) for k, v in numbers.items())
        return self.low.average(where, value, size, stride, padding, total)

    def _flatten(self, node, where: str, value: Value) -> Value:
        start, end = int(_array(node.start_dim)), int(_array(node.end_dim))
        end = end + 3 if end < 0 else end
        # Some writers count a batch axis that NIR does not have.
        if not value.flat and value.shape[1:] != (1, 1) and (start, end) not in ((0, 2), (1, 3)):
            raise SpikeTicketError(f"{where}: flattens axes {start} to {end}; only all of them, 0 "
                                   "to 2, can be")
        return self.low.flatten(value)

    def _integrator(self, key: str, node, where: str, value: Value) -> Value:
        if [b for a, b in self.graph.edges if a == key] != [self.output]:
            raise SpikeTicketError(f"{where}: I is not supported there; the nearest is "
                                   f"{NEAREST['I']}")
        gain = self.how.gain(by_channel(_array(node.r), value.shape, where, "r"), None)
        return self.low.affine(where, value, _tensor(gain), torch.zeros(len(gain)))

    def _neuron(self, node, where: str, shape: Size) -> _Neuron:
        def channels(what: str) -> np.ndarray:
            return by_channel(_array(getattr(node, what)), shape, where, what)

        nir, how = self.nir, self.how
        zero = np.zeros(shape[0])
        if isinstance(node, nir.Threshold):     # a neuron without memory
            return _Neuron(0.0, zero + 1, channels("threshold"), zero, False, zero)
        theta, reset = channels("v_threshold"), channels("v_reset")
        soft = how.reset == "subtract"
        if isinstance(node, nir.IF):
            gain = how.gain(channels("r"), None)
            # Nothing leaks, so v_reset itself is where the membrane rests (and starts).
            return _Neuron(1.0, gain, theta - reset * (not soft), zero, soft, zero)
        tau = node.tau_mem if isinstance(node, nir.CubaLIF) else node.tau
        kept = how.keep(_array(tau), where)
        gain, leak = how.gain(channels("r"), kept), channels("v_leak")
        if isinstance(node, nir.CubaLIF):
            gain = gain * self._synapse(node, where, shape)
        if soft:
            # The membrane starts at 0 and decays to v_leak, which the bias keeps pulling to.
            return _Neuron(kept, gain, theta, zero, True, leak * (1 - kept))
        return _Neuron(kept, gain, theta - leak, reset - leak, False, zero)

    def _synapse(self, node, where: str, shape: Size) -> np.ndarray:
        """Gain [C] of a CubaLIF's synapse, which must forget everything within a timestep."""
        tau = uniform(_array(node.tau_syn), where, "tau_syn")
        forgets = self.how.decay == "euler" and abs(tau / self.how.dt - 1) <= 1e-6
        if not forgets:
            raise SpikeTicketError(f"{where}: tau_syn {tau:g} with dt {self.how.dt:g} filters the "
                                   f"current; the nearest is {NEAREST['CubaLIF']}")
        return by_channel(_array(node.w_in), shape, where, "w_in")

    def _fire(self, key: str, where: str, value: Value, spec: _Neuron) -> Spikes:
        """The layer of a NIR neuron."""
        if not (spec.theta > 0).all():
            c = int((spec.theta <= 0).argmax())
            raise SpikeTicketError(f"{where}: channel {c} has v_threshold at or below rest "
                                   f"({spec.theta[c]:.4g}); the neuron would fire without input")
        if self._is_or(value, spec):
            name = value.sources[0]
            sole = self.readers[key] > 0 and self.readers[self.node_of[name]] == 1
            size, stride, padding = value.window
            before = Spikes(value.sources, self.low.shapes[name])
            pooled = self.low.maximum(where, before, size, stride, padding, sole=sole)
            self.node_of[pooled.sources[0]] = key
            return replace(pooled, flat=value.flat)
        value = self.low.affine(where, self.low.currents(where, value), _tensor(spec.gain),
                                _tensor(spec.offset))
        rule = FloatNeuron(spec.kept, _tensor(spec.theta), None if spec.soft else
                           _tensor(spec.reset), self.how.fires == ">",
                           torch.ones(len(spec.theta), dtype=torch.float64))
        made = self.low.fire(where, key, value, rule)
        self.node_of[made.sources[0]] = key
        return made

    def _is_or(self, value: Value, spec: _Neuron) -> bool:
        """A neuron behind a pool of spikes that one spike fires, and that resets to rest, never
        holds a charge: it is an OR pool."""
        if not isinstance(value, Spikes) or value.window is None or len(value.sources) > 1 or (
                value.sources[0] == INPUT or value.averaged):
            return False
        if spec.soft or spec.reset.any() or spec.offset.any():
            return False
        least = spec.gain * value.gain / value.window[0] ** 2
        return bool((least > spec.theta if self.how.fires == ">" else least >= spec.theta).all())


def _order(graph, where: str = "") -> list[str]:
    """Nodes so that every edge leads forward."""
    before: dict[str, set[str]] = {key: set() for key in graph.nodes}
    for source, target in graph.edges:
        for end in (source, target):
            if end not in before:
                raise SpikeTicketError(f"{where}edge {source!r} -> {target!r}: {end!r} is no "
                                       "node")
        if source in before[target]:
            raise SpikeTicketError(f"{where}edge {source!r} -> {target!r} is there twice")
        before[target].add(source)
    try:
        return list(graphlib.TopologicalSorter(before).static_order())
    except graphlib.CycleError as error:
        loop = " -> ".join(map(repr, reversed(error.args[1])))
        raise SpikeTicketError(f"{where}recurrent ({loop}); the nearest is a feed-forward graph: "
                               "remove the edge that leads back") from error


def _input_shape(node, where: str) -> Size:
    shape = [int(n) for n in np.asarray(node.input_type["input"]).ravel()]
    if len(shape) in (2, 4) and shape[0] == 1:      # Norse writes its batch of one
        shape = shape[1:]
    if len(shape) not in (1, 3) or not all(1 <= n <= 1 << 16 for n in shape):
        raise SpikeTicketError(f"{where}: shape {shape} is not [features] or "
                               "[channels, height, width]; leave out batch and time")
    return (shape[0], 1, 1) if len(shape) == 1 else (shape[0], shape[1], shape[2])


def _array(value: object) -> np.ndarray:
    """Parameters may be arrays, tensors of a library, or numbers."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    return value if isinstance(value, str | bytes) else np.asarray(value)


def _tensor(value: object) -> Tensor:
    return torch.from_numpy(np.array(_array(value), np.float64))
