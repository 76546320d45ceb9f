"""Folding of batch norms, and conversion of float SpikingJelly networks to integer ones.

A float layer computes I = scale * (gamma / sigma * (W x - mu) + beta) and fires at v >= theta.
Dividing by a unit g > 0 of its own for every output channel leaves the spikes as they are::

    w_int = round(gamma / sigma * scale * W / g)    clipped to +-(2^(bits-1) - 1), or a sign
    bias_int = round(scale * (beta - gamma / sigma * mu) / g)
    threshold = round(theta / g)

so the batch norm costs nothing and a negative gamma is a flipped sign. All roundings are to the
nearest integer, halves to even. Further rules, each tested:

- pixels: `operand` = 1/255 is the float value of one integer input unit; an average pool is a sum
  with 1/k^2 folded into g.
- LIFNode: leak = round(256 (1 - 1/tau)); decay_input = True gives scale = 1/tau; IFNode: 256.
- v_reset = r, hard: SpikingJelly's membrane decays towards r, so u = v - r decays towards 0,
  fires at u >= theta - r and is reset to 0. Soft reset (v_reset None): theta is subtracted.
- gamma = 0, or a channel without weights: the threshold is CONSTANT_THETA and the bias follows.
- the readout has one g for all classes, which are compared with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from .errors import SpikeTicketError
from .network import INPUT, InputSpec, Layer, Network, Neuron, Pool, Synapses

THRESHOLD_LIMIT = (1 << 23) - 1
"""Thresholds are signed 24-bit in the core."""

BIAS_LIMIT = (1 << 17) - 1
"""Biases are signed 18-bit in the core."""

CONSTANT_THETA = 4096
"""Threshold of a channel whose batch norm scale is 0: its current is its bias alone."""


def weight_steps(weight: Tensor, bits: int, per_channel: bool) -> Tensor:
    """Step [C_out, 1, 1, 1] that minimises the squared rounding error of the surviving weights.

    Searched over 61 fractions of the step that reaches the largest weight, per output
    channel or (readout: classes are compared with each other) one for the tensor.
    """
    top = (1 << bits - 1) - 1
    rows = weight.flatten(1) if per_channel else weight.reshape(1, -1)
    alive = rows != 0
    largest = rows.abs().amax(1, keepdim=True)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    best, error = largest / top, torch.full_like(largest, torch.inf)
    for fraction in torch.linspace(0.4, 1.0, 61):
        step = largest * fraction / top
        rounded = (rows / step).round().clamp(-top, top) * step
        cost = ((rounded - rows) * alive).square().sum(1, keepdim=True)
        best, error = torch.where(cost < error, step, best), torch.minimum(cost, error)
    return best.expand(len(weight), 1).reshape(-1, 1, 1, 1).clone()


@dataclass(frozen=True, eq=False)
class FoldedBlock:
    """Float weight (signs of negative batch norm scales moved in), its step, and per channel:
    gain (float current of one integer unit), bias (float current), theta (integer threshold)."""

    weight: Tensor
    step: Tensor
    gain: Tensor
    bias: Tensor
    theta: Tensor


@torch.no_grad()
def fold_block(weight: Tensor, norm: nn.BatchNorm2d, bits: int, operand: float = 1.0,
               v_threshold: float = 1.0, input_scale: float = 1.0) -> FoldedBlock:
    """Fold I = input_scale * (gamma / sigma (W x - mu) + beta) into integers.

    operand: float value of one unit of the integer operand (1/255 for pixels). A weight w is
    w_int * step, so one unit of w_int * x_int is gain = |gamma| / sigma * step * operand *
    input_scale of current; theta = round(v_threshold / gain), bias_int = round(bias / gain).
    """
    sigma = (norm.running_var.double() + norm.eps).sqrt()
    gamma = norm.weight.double() if norm.weight is not None else torch.ones_like(sigma)
    beta = norm.bias.double() if norm.bias is not None else torch.zeros_like(sigma)
    sign = torch.where(gamma < 0, -1.0, 1.0)
    weight = weight.double() * sign.view(-1, 1, 1, 1)
    step = weight_steps(weight, bits, True)
    gain = gamma.abs() / sigma * step.flatten() * operand * input_scale
    bias = input_scale * (beta - gamma / sigma * norm.running_mean.double())
    # gamma = 0, or so small that the threshold would not fit: the current is the bias alone.
    constant = gain * THRESHOLD_LIMIT < abs(v_threshold)
    gain = torch.where(constant, abs(v_threshold) / CONSTANT_THETA, gain)
    weight = weight * ~constant.view(-1, 1, 1, 1)
    theta = (v_threshold / gain).round()
    over = ((bias / gain).round().abs() > BIAS_LIMIT).nonzero()
    if len(over):
        c = int(over[0])
        raise SpikeTicketError(
            f"channel {c}: folded bias {float(bias[c] / gain[c]):.0f} exceeds {BIAS_LIMIT}; the "
            "batch norm's running mean is far outside its weights' range, train it further")
    return FoldedBlock(*(x.detach().float() for x in (weight, step, gain, bias, theta)))


@dataclass(frozen=True)
class Connection:
    """One weighted connection of a float network, for `convert`.

    conv: nn.Conv2d (groups 1, dilation 1, square stride and zero padding) or nn.Linear over the
    flattened map. norm: batch norm behind it, in evaluation. sources: maps that are added
    (a residual after the neuron). avg_pool: k x k average pool of the maps before the conv.
    """

    conv: nn.Conv2d | nn.Linear
    norm: nn.Module | None = None
    sources: tuple[str, ...] = (INPUT,)
    avg_pool: int = 1
    bits: int = 4


@dataclass(frozen=True)
class FloatLayer:
    """Connections whose currents are added (a residual before the neuron), a SpikingJelly LIFNode
    or IFNode (None: the readout), and a pool: "max" before the neuron, "or" after it."""

    name: str
    connections: tuple[Connection, ...]
    node: nn.Module | None = None
    pool: Pool | None = None


def identity(channels: int) -> nn.Conv2d:
    """A 1x1 convolution that passes every channel on: the shortcut of a residual block."""
    conv = nn.Conv2d(channels, channels, 1, bias=False)
    conv.weight.data = torch.eye(channels)[:, :, None, None]
    return conv


@torch.no_grad()
def convert(layers: Sequence[FloatLayer], spec: InputSpec, timesteps: int, *,
            input_scale: float = 1 / 255, name: str = "network",
            labels: tuple[str, ...] = ()) -> Network:
    """Quantise a trained float network, layer by layer, to the integer network.

    input_scale: float value of one integer input unit. Layers come in order of execution, the
    readout last. Raises SpikeTicketError for modules that the integer network cannot express.
    """
    shapes = {INPUT: (spec.channels, spec.height, spec.width)}
    built = []
    for layer in layers:
        where = f"layer {layer.name!r}"
        scale, theta, spiking = _node(layer.node, where)
        folded = [_effective(c, shapes, input_scale, where) for c in layer.connections]
        weights = [w * scale for w, _ in folded]
        bias = sum(b for _, b in folded) * scale
        bits = [c.bits for c in layer.connections]
        unit = _units(weights, bits, per_channel=layer.node is not None)
        if layer.node is not None:
            # Without weights, or with weights too small for the threshold's width.
            constant = (unit * THRESHOLD_LIMIT < theta) | (unit == 0)
            unit = torch.where(constant, theta / CONSTANT_THETA, unit)
            weights = [w * ~constant.view(-1, 1, 1, 1) for w in weights]
        unit = torch.where(unit == 0, torch.ones_like(unit), unit)
        bias_int = (bias / unit).round()
        over = (bias_int.abs() > BIAS_LIMIT).nonzero()
        if len(over):
            c = int(over[0])
            raise SpikeTicketError(f"{where}, channel {c}: folded bias {int(bias_int[c])} exceeds "
                                   f"{BIAS_LIMIT}; is its batch norm trained?")
        synapses = []
        for c, w in zip(layer.connections, weights, strict=True):
            stride, padding = _geometry(c.conv, where)
            synapses.append(Synapses(_to_grid(w, unit, c.bits).to(torch.int8).numpy(), c.sources,
                                     stride, padding, c.avg_pool, c.bits))
        threshold = (theta / unit).round() if spiking else torch.zeros_like(unit)
        built.append(Layer(layer.name, tuple(synapses), bias_int.to(torch.int64).numpy(),
                           threshold.to(torch.int64).numpy(), spiking, layer.pool))
        shapes[layer.name] = _out_shape(layer, built[-1], shapes)
    return Network(spec, timesteps, tuple(built), name, labels)


def cnn_layers(model: nn.Module, bits: int = 4) -> list[FloatLayer]:
    """The layers of a `sw.models.SpikingCNN`, for `convert`."""
    layers, source = [], INPUT
    blocks = zip(model.config.blocks, model.convs, model.norms, model.neurons, strict=True)
    for i, (block, conv, norm, node) in enumerate(blocks, 1):
        layers.append(FloatLayer(f"conv{i}", (Connection(conv, norm, (source,), bits=bits),), node,
                                 Pool("or", 2) if block.pool else None))
        source = f"conv{i}"
    return [*layers, FloatLayer("readout", (Connection(model.readout, None, (source,),
                                                       bits=bits),))]


def _node(node: nn.Module | None, where: str) -> tuple[float, float, Neuron | None]:
    """(input scale, threshold above the reset voltage, integer neuron) of a SpikingJelly node."""
    if node is None:
        return 1.0, 1.0, None
    if isinstance(node, neuron.LIFNode):
        leak = round(256 * (1 - 1 / node.tau))
        scale = 1 / node.tau if node.decay_input else 1.0
    elif isinstance(node, neuron.IFNode):
        leak, scale = 256, 1.0
    else:
        raise SpikeTicketError(f"{where}: {type(node).__name__} has no integer form; use "
                               "SpikingJelly's LIFNode or IFNode")
    theta = node.v_threshold - (node.v_reset or 0.0)
    if theta <= 0:
        raise SpikeTicketError(f"{where}: v_threshold {node.v_threshold} is not above v_reset "
                               f"{node.v_reset}; the neuron would fire at rest")
    return scale, theta, Neuron(leak, "soft" if node.v_reset is None else "hard")


def _effective(connection: Connection, shapes: dict[str, tuple[int, int, int]],
               input_scale: float, where: str) -> tuple[Tensor, Tensor]:
    """(weights [C_out, C_in, kh, kw] per integer operand unit, bias [C_out]), batch norm folded."""
    conv, norm = connection.conv, connection.norm
    for source in connection.sources:
        if source not in shapes:
            raise SpikeTicketError(f"{where}: source {source!r} is not an earlier map; there are "
                                   f"{', '.join(shapes)}")
    channels, height, width = shapes[connection.sources[0]]
    weight = conv.weight.detach().double()
    if isinstance(conv, nn.Linear):
        k = connection.avg_pool
        full = (channels, height // k, width // k)
        if conv.in_features != full[0] * full[1] * full[2]:
            raise SpikeTicketError(f"{where}: Linear takes {conv.in_features} features, its map "
                                   f"has {full[0]}x{full[1]}x{full[2]}")
        weight = weight.view(-1, *full)
    bias = torch.zeros(len(weight), dtype=torch.float64)
    if conv.bias is not None:
        bias = conv.bias.detach().double()
    if norm is not None:
        sigma = (norm.running_var.double() + norm.eps).sqrt()
        gamma = torch.ones_like(sigma) if norm.weight is None else norm.weight.detach().double()
        beta = torch.zeros_like(sigma) if norm.bias is None else norm.bias.detach().double()
        weight = weight * (gamma / sigma).view(-1, 1, 1, 1)
        bias = gamma / sigma * (bias - norm.running_mean.double()) + beta
    if len({source == INPUT for source in connection.sources}) > 1 and input_scale != 1.0:
        raise SpikeTicketError(f"{where}: the input (scale {input_scale:g}) and spikes cannot be "
                               "added in one connection; use two connections")
    operand = input_scale if INPUT in connection.sources else 1.0
    return weight * operand / connection.avg_pool ** 2, bias


def _top(bits: int) -> int:
    return max(1, (1 << bits - 1) - 1)


def _to_grid(weight: Tensor, unit: Tensor, bits: int) -> Tensor:
    """Integers of `weight` in units [C_out]; one bit keeps the sign of every surviving weight."""
    if bits == 1:
        return weight.sign()
    return (weight / unit.view(-1, 1, 1, 1)).round().clamp(-_top(bits), _top(bits))


def _units(weights: list[Tensor], bits: list[int], per_channel: bool) -> Tensor:
    """Unit [C_out] with the smallest squared rounding error over all connections; 0: no weights.

    Candidates: the largest weight as each of the integers (so that weights that lie on a grid
    already keep it) and 61 fractions below full scale; for one bit the mean magnitude.
    """
    rows = [w.flatten(1) if per_channel else w.reshape(1, -1) for w in weights]
    candidates = []
    for row, b in zip(rows, bits, strict=True):
        largest, count = row.abs().amax(1), (row != 0).sum(1).clamp_min(1)
        if b == 1:
            candidates.append(row.abs().sum(1) / count)
            continue
        candidates += [largest / j for j in range(1, _top(b) + 1)]
        candidates += [largest * f / _top(b) for f in np.linspace(1.0, 0.4, 61)]
    best = torch.zeros(len(rows[0]), dtype=torch.float64)
    error = torch.full_like(best, torch.inf)
    for unit in candidates:
        safe = torch.where(unit > 0, unit, torch.ones_like(unit))
        cost = sum(((_to_grid(row[:, :, None, None], safe, b).flatten(1) * safe[:, None] - row)
                    .square().sum(1)) for row, b in zip(rows, bits, strict=True))
        # Of equal errors the smallest unit: thresholds and biases are rounded to it, too.
        better = (cost < error * (1 - 1e-9)) | (cost <= error * (1 + 1e-9)) & (unit < best)
        better &= unit > 0
        best, error = torch.where(better, unit, best), torch.where(better, cost, error)
    return best if per_channel else best.expand(len(weights[0])).clone()


def _geometry(conv: nn.Conv2d | nn.Linear, where: str) -> tuple[int, int]:
    """(stride, padding) of a convolution that the integer network has."""
    if isinstance(conv, nn.Linear):
        return 1, 0
    ok = (conv.groups == 1 and conv.dilation == (1, 1) and len(set(conv.stride)) == 1
          and not isinstance(conv.padding, str) and len(set(conv.padding)) == 1
          and conv.padding_mode == "zeros")
    if not ok:
        raise SpikeTicketError(f"{where}: {conv} needs groups 1, dilation 1, equal strides and "
                               "equal numeric zero padding")
    return conv.stride[0], conv.padding[0]


def _out_shape(layer: FloatLayer, built: Layer,
               shapes: dict[str, tuple[int, int, int]]) -> tuple[int, int, int]:
    syn = built.synapses[0]
    _, height, width = shapes[syn.sources[0]]
    k = layer.pool.size if layer.pool else 1
    out = [((n // syn.sum_pool + 2 * syn.padding - w) // syn.stride + 1) // k
           for n, w in zip((height, width), syn.weight.shape[2:], strict=True)]
    return syn.weight.shape[0], *out
