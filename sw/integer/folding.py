"""Layers of modules, batch norms apart, as folded float layers.

For the named networks of `sw.nets`, which list their own modules; a network of
any other origin is read by `sw.imports`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from ..errors import SpikeTicketError
from .attention import Attention, ColumnAttention
from .floats import FloatAttention, FloatLayer, FloatNeuron, FloatOperation, FloatSynapses
from .gate import Gate, Select
from .network import INPUT, InputSpec, Network, Pool, Shape


@dataclass(frozen=True)
class Connection:
    """One weighted connection: nn.Conv2d (groups 1, dilation 1, zero padding), nn.Linear over the
    flattened map, or over the channels of every position; the batch norm behind it; an average
    pool before it of avg_pool x avg_pool."""

    conv: nn.Conv2d | nn.Linear
    norm: nn.Module | None = None
    sources: tuple[str, ...] = (INPUT,)
    avg_pool: int = 1
    bits: int = 4


@dataclass(frozen=True)
class ModuleLayer:
    """Connections whose currents are added, a SpikingJelly LIFNode or IFNode (None: the readout),
    and a pool."""

    name: str
    connections: tuple[Connection, ...]
    node: nn.Module | None = None
    pool: Pool | None = None


@dataclass(frozen=True)
class ModuleAttention:
    """Attention; `scale` multiplies its counts before the node."""

    name: str
    attention: Attention | ColumnAttention
    node: nn.Module
    scale: float = 0.125


ModuleOperation = ModuleLayer | ModuleAttention | Gate | Select


def identity(channels: int) -> nn.Conv2d:
    """A 1x1 convolution that passes every channel on: the shortcut of a residual block."""
    conv = nn.Conv2d(channels, channels, 1, bias=False)
    conv.weight.data = torch.eye(channels)[:, :, None, None]
    return conv


@torch.no_grad()
def fold(layers: Sequence[ModuleOperation], spec: InputSpec) -> list[FloatOperation]:
    """The folded layers, in the same order. Raises SpikeTicketError, naming the layer."""
    shapes = {INPUT: Shape(spec.channels, spec.height, spec.width)}
    gates: dict[str, Gate] = {}
    made: list[FloatOperation] = []
    for layer in layers:
        if isinstance(layer, Gate):
            gates[layer.name] = layer
        elif isinstance(layer, Select):
            shapes[layer.name] = layer.shape(gates, shapes)
        else:
            where = f"layer {layer.name!r}"
            for name in (layer.attention.sources if isinstance(layer, ModuleAttention)
                         else (n for c in layer.connections for n in c.sources)):
                if name not in shapes:
                    raise SpikeTicketError(f"{where}: source {name!r} is not an earlier map; there "
                                           f"are {', '.join(shapes)}")
            layer = (_attention if isinstance(layer, ModuleAttention) else _layer)(
                layer, shapes, where)
            shapes[layer.name] = _shape(layer, shapes, where)
        made.append(layer)
    return made


def node_rule(node: nn.Module, channels: int, where: str) -> tuple[float, FloatNeuron]:
    """(input gain, rule) of a SpikingJelly node."""
    if isinstance(node, neuron.LIFNode):
        decay = 1 - 1 / float(node.tau)
        gain = 1 / float(node.tau) if node.decay_input else 1.0
    elif isinstance(node, neuron.IFNode):
        decay, gain = 1.0, 1.0
    else:
        raise SpikeTicketError(f"{where}: {type(node).__name__} has no integer form; use "
                               "SpikingJelly's LIFNode or IFNode")
    theta = node.v_threshold - (node.v_reset or 0.0)
    if theta <= 0:
        raise SpikeTicketError(f"{where}: v_threshold {node.v_threshold} is not above v_reset "
                               f"{node.v_reset}; the neuron would fire at rest")
    zeros = torch.zeros(channels, dtype=torch.float64)
    # The membrane decays towards v_reset, from which it is measured.
    return gain, FloatNeuron(decay, zeros + theta, None if node.v_reset is None else zeros)


def norm_scale(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """(scale, shift), float64 [C], of a batch norm in evaluation."""
    sigma = (norm.running_var.double() + norm.eps).sqrt()
    gamma = torch.ones_like(sigma) if norm.weight is None else norm.weight.detach().double()
    beta = torch.zeros_like(sigma) if norm.bias is None else norm.bias.detach().double()
    return gamma / sigma, beta - gamma / sigma * norm.running_mean.double()


def _layer(layer: ModuleLayer, shapes: dict[str, Shape], where: str) -> FloatLayer:
    parts = [_synapses(c, shapes, where) for c in layer.connections]
    synapses, bias = tuple(s for s, _ in parts), sum(b for _, b in parts)
    if layer.node is None:
        return FloatLayer(layer.name, synapses, bias, None, layer.pool)
    gain, rule = node_rule(layer.node, len(bias), where)
    synapses = tuple(replace(s, weight=s.weight * gain) for s in synapses)
    return FloatLayer(layer.name, synapses, bias * gain, rule, layer.pool)


def _attention(layer: ModuleAttention, shapes: dict[str, Shape], where: str) -> FloatAttention:
    channels = layer.attention.neurons(where, shapes).channels
    gain, rule = node_rule(layer.node, channels, where)
    return FloatAttention(layer.name, layer.attention, rule, layer.scale * gain)


def _shape(layer: FloatLayer | FloatAttention, shapes: dict[str, Shape], where: str) -> Shape:
    if isinstance(layer, FloatAttention):
        return shapes[layer.attention.query]
    height, width = Network.conv_size(where, layer.synapses[0], shapes)
    if layer.pool is not None:
        height, width = layer.pool.outputs(height, width)
    return Shape(len(layer.bias), height, width)


def _synapses(c: Connection, shapes: dict[str, Shape], where: str) -> tuple[FloatSynapses, Tensor]:
    """A connection without its norm, and its bias."""
    conv, shape = c.conv, shapes[c.sources[0]]
    weight, stride, padding = conv.weight.detach().double(), (1, 1), (0, 0)
    if isinstance(conv, nn.Linear):
        full = (shape.channels, shape.height // c.avg_pool, shape.width // c.avg_pool)
        if conv.in_features == shape.channels:
            full = (shape.channels, 1, 1)
        if conv.in_features != full[0] * full[1] * full[2]:
            raise SpikeTicketError(f"{where}: Linear takes {conv.in_features} features, its map "
                                   f"has {full[0]}x{full[1]}x{full[2]}")
        weight = weight.view(-1, *full)
    else:
        stride, padding = conv.stride, conv.padding
        if conv.groups != 1 or conv.dilation != (1, 1) or isinstance(padding, str) or (
                conv.padding_mode != "zeros"):
            raise SpikeTicketError(f"{where}: {conv} needs groups 1, dilation 1 and numeric zero "
                                   "padding")
    bias = torch.zeros(len(weight), dtype=torch.float64)
    if conv.bias is not None:
        bias = conv.bias.detach().double()
    if c.norm is not None:
        scale, shift = norm_scale(c.norm)
        weight, bias = weight * scale.view(-1, 1, 1, 1), bias * scale + shift
    pool = (c.avg_pool, c.avg_pool)
    return FloatSynapses(weight / c.avg_pool ** 2, c.sources, stride, padding, pool, c.bits), bias
