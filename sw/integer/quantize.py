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
- a gamma so small that its bias would not fit its width: g is the least with which it does.
- the readout has one g for all classes, which are compared with each other.
- attention has no weights: I = scale * x with integer counts x, so g = scale; its leak is that
  whose floor comes nearest to the decay of small counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from ..errors import SpikeTicketError
from .attention import Attention, ColumnAttention
from .gate import Gate, Select
from .network import INPUT, LEAK_ONE, InputSpec, Layer, Network, Neuron, Pool, Shape, Synapses

THRESHOLD_LIMIT = (1 << 23) - 1
"""Thresholds are signed 24-bit in the core."""

BIAS_LIMIT = (1 << 17) - 1
"""Biases are signed 18-bit in the core."""

ORDINARY_BIAS = 16
"""Biases up to this many thresholds may choose the unit; larger ones are refused."""

CONSTANT_THETA = 4096
"""Threshold of a channel whose batch norm scale is 0: its current is its bias alone."""


def largest_weight(bits: int) -> int:
    """The largest integer weight; the smallest is its negative."""
    return max(1, (1 << bits - 1) - 1)


def whole(latent: Tensor, bits: int) -> Tensor:
    """Weights in units of their step, 2 bits and more, as the nearest integers there are."""
    return latent.round().clamp(-largest_weight(bits), largest_weight(bits))


def weight_steps(weight: Tensor, bits: int, per_channel: bool) -> Tensor:
    """Step [C_out, 1, 1, 1] that minimises the squared rounding error of the surviving weights.

    Searched over 61 fractions of the step that reaches the largest weight, per output
    channel or (readout: classes are compared with each other) one for the tensor.
    """
    top = largest_weight(bits)
    rows = weight.flatten(1) if per_channel else weight.reshape(1, -1)
    alive = rows != 0
    reach = rows.abs().amax(1, keepdim=True)
    reach = torch.where(reach > 0, reach, torch.ones_like(reach))
    best, error = reach / top, torch.full_like(reach, torch.inf)
    for fraction in torch.linspace(0.4, 1.0, 61):
        step = reach * fraction / top
        rounded = whole(rows / step, bits) * step
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
               v_threshold: float = 1.0, input_scale: float = 1.0,
               step: Tensor | None = None) -> FoldedBlock:
    """Fold I = input_scale * (gamma / sigma (W x - mu) + beta) into integers.

    operand: float value of one unit of the integer operand (1/255 for pixels). A weight w is
    w_int * step, so one unit of w_int * x_int is gain = |gamma| / sigma * step * operand *
    input_scale of current; theta = round(v_threshold / gain), bias_int = round(bias / gain).
    step: [C_out, 1, 1, 1]; None: that of `weight_steps`.
    """
    sigma = (norm.running_var.double() + norm.eps).sqrt()
    gamma = norm.weight.double() if norm.weight is not None else torch.ones_like(sigma)
    beta = norm.bias.double() if norm.bias is not None else torch.zeros_like(sigma)
    sign = torch.where(gamma < 0, -1.0, 1.0)
    weight = weight.double() * sign.view(-1, 1, 1, 1)
    step = weight_steps(weight, bits, True) if step is None else step.double()
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

    conv: nn.Conv2d (groups 1, dilation 1, square stride and zero padding), nn.Linear over the
    flattened map, or nn.Linear over the channels of every position. norm: batch norm behind it, in
    evaluation. sources: maps that are added (a residual after the neuron). avg_pool: k x k average
    pool of the maps before the conv.
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


@dataclass(frozen=True)
class FloatAttention:
    """Attention of a float network; `scale` multiplies its counts before the node."""

    name: str
    attention: Attention | ColumnAttention
    node: nn.Module
    scale: float = 0.125


@dataclass(frozen=True, eq=False)
class FoldedLayer:
    """A layer with everything folded, but not yet rounded; lists go by connection.

    weights: as in the float network, [C_out, C_in, kh, kw]; times `factors` [C_out] they are float
    current per unit of the integer operand. unit: float current of one integer unit, [C_out].
    bias: float current, [C_out]. threshold: integers, [C_out].
    """

    name: str
    connections: tuple[Connection, ...]
    weights: list[Tensor]
    factors: list[Tensor]
    unit: Tensor
    bias: Tensor
    threshold: Tensor
    neuron: Neuron | None
    pool: Pool | None = None
    attention: Attention | ColumnAttention | None = None

    def rounded(self) -> Layer:
        """The integer layer."""
        synapses = []
        for c, w, factor in zip(self.connections, self.weights, self.factors, strict=True):
            stride, padding = _geometry(c.conv, f"layer {self.name!r}")
            w = _to_grid(w * factor.view(-1, 1, 1, 1), self.unit, c.bits)
            synapses.append(Synapses(w.to(torch.int8).numpy(), c.sources, stride, padding,
                                     c.avg_pool, c.bits))
        bias = (self.bias / self.unit).round().to(torch.int64).numpy()
        return Layer(self.name, tuple(synapses), bias, self.threshold.to(torch.int64).numpy(),
                     self.neuron, self.pool, self.attention)


def identity(channels: int) -> nn.Conv2d:
    """A 1x1 convolution that passes every channel on: the shortcut of a residual block."""
    conv = nn.Conv2d(channels, channels, 1, bias=False)
    conv.weight.data = torch.eye(channels)[:, :, None, None]
    return conv


FloatOperation = FloatLayer | FloatAttention | Gate | Select
"""What `convert` takes; gates and selections are the same in floats and in integers."""


@torch.no_grad()
def convert(layers: Sequence[FloatOperation], spec: InputSpec, timesteps: int, *,
            input_scale: float = 1 / 255, name: str = "network",
            labels: tuple[str, ...] = ()) -> Network:
    """Quantise a trained float network, layer by layer, to the integer network.

    input_scale: float value of one integer input unit. Layers come in order of execution, the
    readout last. Raises SpikeTicketError for modules that the integer network cannot express.
    """
    folded = fold(layers, spec, input_scale)
    built = [f.rounded() if isinstance(f, FoldedLayer) else f for f in folded]
    return Network(spec, timesteps, tuple(built), name, labels)


@torch.no_grad()
def fold(layers: Sequence[FloatOperation], spec: InputSpec,
         input_scale: float = 1 / 255) -> list[FoldedLayer | Gate | Select]:
    """Fold batch norms and scales and choose the units; `convert` rounds the result."""
    shapes = {INPUT: Shape(spec.channels, spec.height, spec.width)}
    gates: dict[str, Gate] = {}
    folded: list[FoldedLayer | Gate | Select] = []
    for layer in layers:
        if isinstance(layer, Gate):
            gates[layer.name] = layer
        elif isinstance(layer, Select):
            shapes[layer.name] = layer.shape(gates, shapes)
        elif isinstance(layer, FloatAttention):
            layer = _fold_attention(layer, shapes)
            shapes[layer.name] = Network.layer_shape(layer.rounded(), shapes)
        else:
            layer = _fold_layer(layer, shapes, input_scale)
            shapes[layer.name] = Network.layer_shape(layer.rounded(), shapes)
        folded.append(layer)
    return folded


def _fold_layer(layer: FloatLayer, shapes: dict[str, Shape], input_scale: float) -> FoldedLayer:
    where = f"layer {layer.name!r}"
    scale, theta, spiking = _node(layer.node, where)
    parts = [_effective(c, shapes, input_scale, where) for c in layer.connections]
    weights = [w for w, _, _ in parts]
    factors = [f * scale for _, f, _ in parts]
    bias = sum(b for _, _, b in parts) * scale
    currents = [w * f.view(-1, 1, 1, 1) for w, f in zip(weights, factors, strict=True)]
    unit = _units(currents, [c.bits for c in layer.connections], layer.node is not None)
    if layer.node is not None:
        # Without weights, or with weights too small for the threshold's width.
        constant = (unit * THRESHOLD_LIMIT < theta) | (unit == 0)
        unit = torch.where(constant, theta / CONSTANT_THETA, unit)
        weights = [w * ~constant.view(-1, 1, 1, 1) for w in weights]
        # Tiny weights beside an ordinary bias: what must fit is the bias.
        ordinary = bias.abs() <= ORDINARY_BIAS * theta
        unit = torch.where(ordinary, torch.maximum(unit, bias.abs() / BIAS_LIMIT), unit)
    unit = torch.where(unit == 0, torch.ones_like(unit), unit)
    bias_int = (bias / unit).round()
    over = (bias_int.abs() > BIAS_LIMIT).nonzero()
    if len(over):
        c = int(over[0])
        raise SpikeTicketError(f"{where}, channel {c}: folded bias {int(bias_int[c])} exceeds "
                               f"{BIAS_LIMIT}; is its batch norm trained?")
    threshold = (theta / unit).round() if spiking else torch.zeros_like(unit)
    return FoldedLayer(layer.name, layer.connections, weights, factors, unit, bias, threshold,
                       spiking, layer.pool)


def _fold_attention(layer: FloatAttention, shapes: dict[str, Shape]) -> FoldedLayer:
    where = f"layer {layer.name!r}"
    scale, theta, spiking = _node(layer.node, where)
    if layer.scale <= 0:
        raise SpikeTicketError(f"{where}: attention scale {layer.scale} must be above 0")
    shape = layer.attention.neurons(where, shapes)
    unit = torch.full((shape.channels,), scale * layer.scale, dtype=torch.float64)
    threshold = (theta / unit).round()
    spiking = replace(spiking, leak=_coarse_leak(spiking.leak, int(threshold[0])))
    return FoldedLayer(layer.name, (), [], [], unit, torch.zeros_like(unit), threshold, spiking,
                       None, layer.attention)


def _coarse_leak(leak: int, threshold: int) -> int:
    """The leak whose floored decay is nearest to leak / 256 * v, over v = 0 .. threshold - 1.

    Attention's membranes are a few counts, where the floor matters: at lambda = 0.99 it would take
    one of three counts away at every timestep; 256 takes none. Ties: the nearest leak. Of
    lambda = 1/2^m the floor changes no spike, as floor((floor(v) + x) / n) = floor((v + x) / n).
    """
    if leak == 0 or LEAK_ONE % leak == 0:
        return leak
    v, leaks = np.arange(min(threshold, 1 << 12)), np.arange(LEAK_ONE + 1)
    cost = np.abs(leaks[:, None] * v // LEAK_ONE - leak * v / LEAK_ONE).sum(1)
    best = np.flatnonzero(cost <= cost.min() + 1e-9)
    return int(best[np.abs(best - leak).argmin()])


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


def _effective(connection: Connection, shapes: dict[str, Shape], input_scale: float,
               where: str) -> tuple[Tensor, Tensor, Tensor]:
    """(weights [C_out, C_in, kh, kw], current per weight and integer operand unit [C_out], bias
    [C_out]); the batch norm is in the last two."""
    conv, norm = connection.conv, connection.norm
    for source in connection.sources:
        if source not in shapes:
            raise SpikeTicketError(f"{where}: source {source!r} is not an earlier map; there are "
                                   f"{', '.join(shapes)}")
    channels, height, width = astuple(shapes[connection.sources[0]])
    weight = conv.weight.detach().double()
    if isinstance(conv, nn.Linear):
        k = connection.avg_pool
        full = (channels, height // k, width // k)
        if conv.in_features == channels:
            full = (channels, 1, 1)
        if conv.in_features != full[0] * full[1] * full[2]:
            raise SpikeTicketError(f"{where}: Linear takes {conv.in_features} features, its map "
                                   f"has {full[0]}x{full[1]}x{full[2]}")
        weight = weight.view(-1, *full)
    bias = torch.zeros(len(weight), dtype=torch.float64)
    factor = torch.ones_like(bias)
    if conv.bias is not None:
        bias = conv.bias.detach().double()
    if norm is not None:
        sigma = (norm.running_var.double() + norm.eps).sqrt()
        gamma = torch.ones_like(sigma) if norm.weight is None else norm.weight.detach().double()
        beta = torch.zeros_like(sigma) if norm.bias is None else norm.bias.detach().double()
        factor = gamma / sigma
        bias = gamma / sigma * (bias - norm.running_mean.double()) + beta
    if len({source == INPUT for source in connection.sources}) > 1 and input_scale != 1.0:
        raise SpikeTicketError(f"{where}: the input (scale {input_scale:g}) and spikes cannot be "
                               "added in one connection; use two connections")
    operand = input_scale if INPUT in connection.sources else 1.0
    return weight, factor * operand / connection.avg_pool ** 2, bias


def _to_grid(weight: Tensor, unit: Tensor, bits: int) -> Tensor:
    """Integers of `weight` in units [C_out]; one bit keeps the sign of every surviving weight."""
    if bits == 1:
        return weight.sign()
    return whole(weight / unit.view(-1, 1, 1, 1), bits)


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
        candidates += [largest / j for j in range(1, largest_weight(b) + 1)]
        candidates += [largest * f / largest_weight(b) for f in np.linspace(1.0, 0.4, 61)]
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
