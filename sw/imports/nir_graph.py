"""From a NIR graph to the integer network: its module is read as any other module is."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..data import depth
from ..errors import SpikeTicketError
from ..integer.floats import FloatLayer, FloatSynapses
from ..integer.network import MAX_TIMESTEPS, InputSpec
from . import nir_file, reach
from .dialects import DIALECTS, dialect, unsaid
from .integers import Imported, build
from .nir_module import NIRModule
from .reader import Bits
from .reading import read_module
from .selfcheck import check

METADATA = "spiketicket"
"""Key of what `sw.imports.to_nir` writes beside a graph."""


def from_nir(graph: object, *, timesteps: int | None = None, dialect_of: str = "nir",
             dt: float | None = None, fires: str | None = None, reset: str | None = None,
             norm_input: bool | None = None, confirm: bool = False,
             bits: Bits | None = None, input_bits: int | None = None,
             static: bool | None = None, input_scale: float | None = None,
             name: str | None = None, labels: tuple[str, ...] = ()) -> Imported:
    """Import a NIR graph.

    graph: a nir.NIRGraph or the path of a file that nir.write made.
    timesteps: NIR graphs have none, so they must be given (exported tickets know theirs).
    dialect_of: the library that wrote the graph, one of `sw.imports.dialects.DIALECTS`, or "nir"
        for the words of NIR's specification; dt, fires and reset replace parts of it, norm_input
        is that of sinabs' neurons.
    confirm: what the notes say about things that the file does not hold is right; they are left
        out then, as those are that dt, reset and norm_input answer.
    bits: of the weights, 4, or one width by layer name (the neuron's node; "readout").
    input_bits, static: see `sw.integer.network.InputSpec`; 8, False. input_scale: float value of
        one integer input unit; for static inputs that of a pixel's upper bits (`sw.data.depth`:
        1/255 for 8), 1 for others.

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
            input_scale = (depth.scale(known["input_bits"])
                           if known["static"] and not known["exported"] else 1.0)
        module = NIRModule(nir, graph, how)
        if not module.neurons:
            raise SpikeTicketError("no neuron in the graph; a ticket needs one (IF, LIF, CubaLIF, "
                                   "Threshold)")
        spec = InputSpec(*module.input_shape, bits=known["input_bits"], static=known["static"])
        reading = read_module(module, spec, known["timesteps"],
                              8 if known["exported"] else known["bits"], input_scale)
        layers = [_own(layer) for layer in reading.layers]
        layers[-1] = replace(layers[-1], name=known["readout"])
        if known["exported"]:
            sizes = {name: m.layout.size for name, m in reading.maps.items()}
            layers = [_as_exported(layer, known["bits"], sizes) for layer in layers]
        imported = build(layers, spec, known["timesteps"], input_scale=input_scale,
                         name=known["name"], labels=known["labels"])
        checked = check(reading, imported)
    except SpikeTicketError as error:
        raise SpikeTicketError(f"{where}: {error}") from error
    unreached = reach.notes(layers, spec, known["timesteps"], input_scale, "is the dialect right?")
    said = [*reading.notes, *_open(module, known), *([] if confirm else module.habits),
            *unreached, *(line for line in checked if not _about(line, unreached))]
    return replace(imported, notes=(*imported.notes, *said),
                   facts={"source": "nir", "dialect": how.says})


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


def _about(line: str, others: Sequence[str]) -> bool:
    """Another line is about the same layer."""
    return any(other.startswith(line[:line.index("' ") + 1]) for other in others)


def _own(layer: FloatLayer) -> FloatLayer:
    """The graph's own currents are the layer's unit, as far as they fit."""
    neuron = layer.neuron
    return layer if neuron is None else replace(
        layer, neuron=replace(neuron, unit=torch.ones_like(neuron.theta)))


def _as_exported(layer: FloatLayer, bits: Mapping[str, Sequence[int]],
                 sizes: Mapping[str, tuple[int, int]]) -> FloatLayer:
    """A ticket's layer with its own widths. A connection that holds two of the ticket's (they read
    one map) has as many bits as its whole numbers need. A readout of all positions sums them."""
    own = list(bits.get(layer.name, ()))
    widths = own if len(own) == len(layer.synapses) else [1] * len(layer.synapses)
    layer = replace(layer, synapses=tuple(
        replace(s, bits=max(b, _needed(s))) for s, b in zip(layer.synapses, widths, strict=True)))
    bias = layer.bias / math.prod(layer.synapses[0].sum_pool)
    if layer.neuron is not None or len(layer.synapses) > 1 or bool((bias != bias.round()).any()):
        return layer
    synapses, = layer.synapses
    covers = synapses.weight.shape[2:] == (1, 1) and synapses.stride == (1, 1) and all(
        sizes.get(name) == synapses.sum_pool for name in synapses.sources)
    return replace(layer, bias=bias, synapses=(replace(synapses, sum_pool=(1, 1)),)
                   ) if covers else layer


def _needed(synapses: FloatSynapses) -> int:
    """Bits of whole weights, in a symmetric range; one bit holds signs only."""
    size = synapses.weight.abs()
    largest = int(size.max()) if size.numel() else 0
    return 1 if largest <= 1 else min(8, largest.bit_length() + 1)
