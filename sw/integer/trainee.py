"""Any integer network, in its own arithmetic, as something gradients flow through.

The forward pass gives the integers of `sw.integer.spikingjelly.IntegerNetwork`; rounding and floor
pass gradients straight through, and a spike's surrogate is the float networks' triangle over (v -
threshold) * unit, where unit is the size of one integer unit in float membranes. Weights and biases
are trained in float units, so learning rates mean what they meant before folding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SpikeTicketError
from ..models import repeat_like
from . import tokens
from .attention import Attention, ColumnAttention
from .gate import Gate, Select, check_masks
from .network import INPUT, InputSpec, Layer, Network, Neuron, Pool, Synapses
from .quantize import FloatOperation, FoldedLayer, _geometry, fold, whole


class IntegerLIF(torch.autograd.Function):
    """Integer LIF over all timesteps: currents [T, B, C, H, W], or [B, C, H, W] and `steps`.

    spec: leak and reset; theta, unit [C]: integer threshold, size of an integer unit in floats.
    Whole numbers in float32. The decay's product may need 8 bits more than the membrane, which
    float32 has only for powers of two: other leaks go through integers.
    """

    @staticmethod
    def forward(ctx, x: Tensor, spec: Neuron, theta: Tensor, unit: Tensor, steps: int | None):
        static = steps is not None
        h = repeat_like(x, steps) if static else torch.empty_like(x)
        s = torch.empty_like(h)
        theta, unit = theta.view(-1, 1, 1), unit.view(-1, 1, 1)
        exact = spec.leak & (spec.leak - 1) == 0
        v = torch.full_like(h[0], spec.v_reset)
        for t in range(h.shape[0]):
            if exact:
                v.mul_(spec.leak / 256).floor_()
            else:
                v = (v.to(torch.int32) * spec.leak >> 8).to(x.dtype)
            torch.add(x if static else x[t], v, out=h[t])
            torch.ge(h[t], theta, out=s[t])
            if spec.reset == "soft":
                v = h[t] - s[t] * theta
            else:
                v = torch.where(s[t] > 0, float(spec.v_reset), h[t])
        ctx.save_for_backward(h, s, theta, unit)
        ctx.keep, ctx.static, ctx.soft = spec.leak / 256, static, spec.reset == "soft"
        return s

    @staticmethod
    def backward(ctx, grad: Tensor):
        h, s, theta, unit = ctx.saved_tensors
        g = h.sub(theta).mul_(unit).abs_().neg_().add_(1.0).clamp_min_(0.0).mul_(grad)
        for t in range(h.shape[0] - 2, -1, -1):
            g[t].add_(g[t + 1], alpha=ctx.keep)
            if not ctx.soft:
                g[t].addcmul_(g[t + 1], s[t], value=-ctx.keep)
        g.mul_(unit)
        return (g.sum(0) if ctx.static else g), None, None, None, None


def straight_through(value: Tensor, rounded: Tensor) -> Tensor:
    """`rounded` forward, the gradient of `value` backward."""
    return value + (rounded - value).detach()


class TraineeLayer(nn.Module):
    """A folded layer with trainable weights and bias.

    masks: by connection, 1 where a weight survives; None: where it is not 0.
    """

    def __init__(self, folded: FoldedLayer, timesteps: int, mask: Tensor | None = None):
        super().__init__()
        self.folded, self.timesteps = folded, timesteps
        self.weights = nn.ParameterList()
        parts = zip(folded.weights, folded.factors, strict=True)
        for j, (weight, factor) in enumerate(parts):
            alive = (weight != 0) if mask is None else mask.reshape(weight.shape) != 0
            alive &= (factor / folded.unit != 0).view(-1, 1, 1, 1)
            self.weights.append(nn.Parameter((weight * alive).float()))
            self.register_buffer(f"mask{j}", alive.float())
            self.register_buffer(f"ratio{j}", (factor / folded.unit).float().view(-1, 1, 1, 1))
        self.bias = nn.Parameter(folded.bias.float(), requires_grad=not folded.attention)
        self.register_buffer("unit", folded.unit.float())
        self.register_buffer("threshold", folded.threshold.float())

    def integer_weight(self, j: int) -> Tensor:
        """Whole numbers [C_out, C_in, kh, kw]; 1 bit: the signs of the surviving weights."""
        mask, bits = getattr(self, f"mask{j}"), self.folded.connections[j].bits
        latent = self.weights[j] * getattr(self, f"ratio{j}")
        if bits == 1:
            integers = torch.where(latent.detach() < 0, -1.0, 1.0)
        else:
            # A weight beyond the clamp still gets its gradient, and may come back.
            integers = whole(latent.detach(), bits)
        return straight_through(latent * mask, integers * mask)

    def integer_bias(self) -> Tensor:
        latent = self.bias / self.unit
        return straight_through(latent, latent.detach().round())

    def forward(self, maps: dict[str, Tensor], sums: dict[tuple[str, ...], Tensor]) -> Tensor:
        """Spikes [T, B, C, H, W] from maps [T or 1, B, C, H, W]; the readout: logits [B, C].

        sums: sums of maps computed so far.
        """
        folded, pool = self.folded, self.folded.pool
        if folded.neuron is None:
            return self._readout(maps, sums)
        bias = self.integer_bias().view(-1, 1, 1)
        if folded.attention is not None:
            currents = _attend(folded.attention, maps) + bias
        else:
            currents = sum(self._convolve(j, _operand(c.sources, maps, sums))
                           for j, c in enumerate(folded.connections)) + bias
        if pool is not None and pool.mode == "max":
            currents = _max_pool(currents, pool)
        static = currents.shape[0] != self.timesteps
        spikes = IntegerLIF.apply(currents[0] if static else currents, folded.neuron,
                                   self.threshold, self.unit, self.timesteps if static else None)
        if isinstance(folded.attention, ColumnAttention):
            spikes = spikes * maps[folded.attention.query]
        if pool is not None and pool.mode == "or":
            spikes = _max_pool(spikes, pool)
        return spikes

    def _convolve(self, j: int, operand: Tensor) -> Tensor:
        c, lead = self.folded.connections[j], operand.shape[:2]
        x = operand.flatten(0, 1)
        if c.avg_pool > 1:
            x = F.avg_pool2d(x, c.avg_pool, divisor_override=1)
        stride, padding = _geometry(c.conv, self.folded.name)
        x = F.conv2d(x, self.integer_weight(j).to(x.dtype), None, stride, padding)
        return x.unflatten(0, lead)

    def _readout(self, maps: dict[str, Tensor], sums: dict[tuple[str, ...], Tensor]) -> Tensor:
        """Sums over positions and timesteps, in float64: they are the largest of all integers."""
        total = 0
        for j, c in enumerate(self.folded.connections):
            operand = _operand(c.sources, maps, sums).double()
            repeat = self.timesteps // len(operand)     # a static map counts at every timestep
            pointwise = (self.weights[j].shape[2:] == (1, 1) and c.avg_pool == 1
                         and _geometry(c.conv, self.folded.name) == (1, 0))
            if pointwise:                               # then sums commute with the convolution
                self.positions = operand.shape[3] * operand.shape[4]
                operand = operand.sum((0, 3, 4), keepdim=True)
            currents = self._convolve(j, operand)
            if not pointwise:
                self.positions = currents.shape[3] * currents.shape[4]
            total = total + currents.sum((0, 3, 4)) * repeat
        return total + self.integer_bias().double() * (self.timesteps * self.positions)

    @torch.no_grad()
    def to_layer(self) -> Layer:
        """The integer layer as it is now."""
        folded = self.folded
        synapses = tuple(
            Synapses(whole_numbers(self.integer_weight(j), torch.int8), c.sources,
                     *_geometry(c.conv, folded.name), c.avg_pool, c.bits)
            for j, c in enumerate(folded.connections))
        return Layer(folded.name, synapses, whole_numbers(self.integer_bias(), torch.int64),
                     whole_numbers(self.threshold, torch.int64), folded.neuron, folded.pool,
                     folded.attention)


class NetworkTrainee(nn.Module):
    """The integer network of a trained float network, with trainable weights and biases.

    layers, spec, input_scale: as for `sw.integer.quantize.convert`. masks: survivors by layer name,
    of the float weight's shape; layers without one keep the weights that are not 0.

    forward: integers [B, C, H, W] (static) or [B, T, C, H, W] as `prepare` gives them -> logits
    scaled as the float network's. `kept`, bool [B, N], goes to a gate with masks from the host.
    """

    def __init__(self, layers: Sequence[FloatOperation], spec: InputSpec, timesteps: int,
                 masks: Mapping[str, Tensor] | None = None, *, input_scale: float = 1 / 255):
        super().__init__()
        self.spec, self.timesteps = spec, timesteps
        self.operations = fold(layers, spec, input_scale)
        names = [f.name for f in self.operations if isinstance(f, FoldedLayer)]
        masks = dict(masks or {})
        unknown = sorted(set(masks) - set(names))
        if unknown:
            raise SpikeTicketError(f"masks for {', '.join(unknown)}, which are no layers; there "
                                   f"are {', '.join(names)}")
        self.layers = nn.ModuleList(TraineeLayer(f, timesteps, masks.get(f.name))
                                    for f in self.operations if isinstance(f, FoldedLayer))
        self.to_network()   # raises where widths or shapes disagree
        self.to(memory_format=torch.channels_last)

    @staticmethod
    def prepare(images: Tensor) -> Tensor:
        """uint8 images or event counts to the integers that `forward` takes."""
        return images.float()

    def logits(self, x: Tensor, spikes: dict[str, Tensor] | None = None,
               kept: Tensor | None = None) -> Tensor:
        """Whole-number logits float64 [B, classes]; `spikes` receives every map by layer name."""
        x = x.unsqueeze(0) if self.spec.static else x.transpose(0, 1)
        maps, sums = {INPUT: x}, {}
        gates = {g.name: g for g in self.operations if isinstance(g, Gate)}
        masks = check_masks(gates, None if kept is None else kept.cpu().numpy(), x.shape[1])
        chosen: dict[str, Tensor] = {}
        modules = iter(self.layers)
        for operation in self.operations:
            if isinstance(operation, Gate):
                chosen[operation.name] = tokens.choose(operation, maps, masks)
                if operation.mode == "input":
                    maps[INPUT] = tokens.zero_patches(x, chosen[operation.name], operation.grid)
                continue
            if isinstance(operation, Select):
                taken = tokens.take(maps[operation.source].flatten(3), chosen[operation.gate])
                maps[operation.name] = taken.unsqueeze(3)
            else:
                maps[operation.name] = next(modules)(maps, sums)
        result = maps.pop(self.operations[-1].name)
        if spikes is not None:
            spikes.update((name, s) for name, s in maps.items() if name != INPUT)
        return result

    def forward(self, x: Tensor, spikes: dict[str, Tensor] | None = None,
                kept: Tensor | None = None) -> Tensor:
        readout = self.layers[-1]
        whole = self.logits(x, spikes, kept)
        return (whole * (readout.unit[0] / (self.timesteps * readout.positions))).float()

    def sparsity(self) -> float:
        """Fraction of all integer weights that are 0."""
        return self.to_network().sparsity

    def to_network(self, name: str = "ticket", labels: tuple[str, ...] = ()) -> Network:
        """The same network as the `sw.integer.network.Network` that is saved and compiled."""
        modules = iter(self.layers)
        layers = tuple(next(modules).to_layer() if isinstance(f, FoldedLayer) else f
                       for f in self.operations)
        return Network(self.spec, self.timesteps, layers, name, labels)


def _operand(sources: tuple[str, ...], maps: dict[str, Tensor],
             sums: dict[tuple[str, ...], Tensor]) -> Tensor:
    """Sum of maps; a residual stream grows map by map, so shorter sums are kept in `sums`."""
    if len(sources) == 1:
        return maps[sources[0]]
    if sources not in sums:
        sums[sources] = _operand(sources[:-1], maps, sums) + maps[sources[-1]]
    return sums[sources]


def _attend(attention: Attention | ColumnAttention, maps: dict[str, Tensor]) -> Tensor:
    q, k, v = (maps[name].flatten(3) for name in attention.sources)
    if isinstance(attention, ColumnAttention):
        return tokens.column_attention(k, v).unsqueeze(4)
    return tokens.self_attention(q, k, v, attention.heads).view(maps[attention.query].shape)


def _max_pool(x: Tensor, pool: Pool) -> Tensor:
    """Maximum over windows of [T, B, C, H, W]; the OR of spikes."""
    lead = x.shape[:2]
    return F.max_pool2d(x.flatten(0, 1), pool.size, pool.stride, pool.padding).unflatten(0, lead)


def whole_numbers(x: Tensor, dtype: torch.dtype) -> np.ndarray:
    """Whole numbers held in floats, as a contiguous array of an integer type."""
    return np.ascontiguousarray(x.detach().round().to(dtype).cpu().numpy())
