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
from torch import Tensor, nn

from ..errors import SpikeTicketError
from .attention import ColumnAttention
from .floats import FloatOperation
from .maps import attend, convolve, max_pool, walk
from .network import InputSpec, Layer, Network, Neuron, Synapses
from .quantize import ScaledLayer, scale
from .units import BIAS_LIMIT, largest_weight, whole


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
                v = (v.to(torch.int64) * spec.leak >> 8).to(x.dtype)
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


def repeat_like(x: Tensor, steps: int) -> Tensor:
    """Uninitialised [steps, *x.shape] whose slices have the memory order of `x`."""
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        b, c, h, w = x.shape
        return x.new_empty(steps, b, h, w, c).permute(0, 1, 4, 2, 3)
    return x.new_empty(steps, *x.shape)


def straight_through(value: Tensor, rounded: Tensor) -> Tensor:
    """`rounded` forward, the gradient of `value` backward."""
    return value + (rounded - value).detach()


class TraineeLayer(nn.Module):
    """A scaled layer with trainable weights and bias.

    masks: by connection, 1 where a weight survives; None: where it is not 0. size: of a typical
    threshold. Weights are trained in a scale of their own, in which the survivors of a channel have
    about the size that PyTorch would draw for their number, biases in thresholds.
    """

    def __init__(self, scaled: ScaledLayer, timesteps: int, size: float,
                 masks: Sequence[Tensor | None]):
        super().__init__()
        self.scaled, self.timesteps = scaled, timesteps
        self.weights = nn.ParameterList()
        axes = (-1, 1, 1, 1)
        for j, (syn, mask) in enumerate(zip(scaled.synapses, masks, strict=True)):
            alive = (syn.weight != 0) if mask is None else mask.reshape(syn.weight.shape) != 0
            steps = syn.weight / scaled.unit.view(axes)
            ratio = _ratio(steps * alive)
            self.weights.append(nn.Parameter((steps * alive / ratio.view(axes)).float()))
            self.register_buffer(f"mask{j}", alive.float())
            self.register_buffer(f"ratio{j}", ratio.float().view(axes))
        bias = torch.where((scaled.bias / scaled.unit).round() == scaled.whole_bias, scaled.bias,
                           scaled.whole_bias * scaled.unit)
        self.bias = nn.Parameter((bias / size).float(),
                                 requires_grad=scaled.attention is None)
        self.register_buffer("unit", (scaled.unit / size).float())
        self.register_buffer("threshold", scaled.threshold.float())
        self.dtype = torch.float32

    def largest(self, network: Network) -> int:
        """Bound of a current's magnitude, whatever the weights become."""
        if self.scaled.attention is not None:
            return self.scaled.attention.bound(network.shapes()[self.scaled.attention.query])
        total = BIAS_LIMIT
        for j, syn in enumerate(self.scaled.synapses):
            survivors = int(getattr(self, f"mask{j}").flatten(1).sum(1).max())
            total += survivors * largest_weight(syn.bits) * network.operand_bound(syn)
        return total

    def integer_weight(self, j: int) -> Tensor:
        """Whole numbers [C_out, C_in, kh, kw]; 1 bit: the signs of the surviving weights."""
        mask, bits = getattr(self, f"mask{j}"), self.scaled.synapses[j].bits
        latent = self.weights[j] * getattr(self, f"ratio{j}")
        if bits == 1:
            integers = torch.where(latent.detach() < 0, -1.0, 1.0)
        else:
            # A weight beyond the clamp still gets its gradient, and may come back.
            integers = whole(latent.detach(), bits)
        return straight_through(latent * mask, integers * mask)

    def integer_bias(self) -> Tensor:
        latent = self.bias / self.unit
        return straight_through(latent, latent.detach().round()) + self.scaled.shift

    def forward(self, maps: dict[str, Tensor], sums: dict[tuple[str, ...], Tensor]) -> Tensor:
        """Spikes [T, B, C, H, W] from maps [T or 1, B, C, H, W]; the readout: logits [B, C].

        sums: sums of maps computed so far.
        """
        scaled, pool = self.scaled, self.scaled.pool
        if scaled.neuron is None:
            return self._readout(maps, sums)
        currents = self.integer_bias().view(-1, 1, 1).to(self.dtype)
        if scaled.attention is not None:
            currents = currents + attend(scaled.attention, maps, self.dtype)
        for j, syn in enumerate(scaled.synapses):
            operand = _operand(syn.sources, maps, sums).to(self.dtype)
            currents = currents + convolve(operand, self.integer_weight(j).to(self.dtype), syn)
        if pool is not None and pool.mode == "max":
            currents = max_pool(currents, pool)
        static = currents.shape[0] != self.timesteps
        spikes = IntegerLIF.apply(currents[0] if static else currents, scaled.neuron,
                                  self.threshold, self.unit, self.timesteps if static else None)
        spikes = spikes.to(self.threshold.dtype)
        if isinstance(scaled.attention, ColumnAttention):
            spikes = spikes * maps[scaled.attention.query]
        if pool is not None and pool.mode == "or":
            spikes = max_pool(spikes, pool)
        return spikes

    def _readout(self, maps: dict[str, Tensor], sums: dict[tuple[str, ...], Tensor]) -> Tensor:
        """Sums over positions and timesteps, in float64: they are the largest of all integers."""
        total = 0
        for j, syn in enumerate(self.scaled.synapses):
            operand = _operand(syn.sources, maps, sums).double()
            repeat = self.timesteps // len(operand)     # a static map counts at every timestep
            pointwise = (self.weights[j].shape[2:] == (1, 1) and syn.sum_pool == (1, 1)
                         and (syn.stride, syn.padding) == ((1, 1), (0, 0)))
            if pointwise:                               # then sums commute with the convolution
                positions = operand.shape[3] * operand.shape[4]
                operand = operand.sum((0, 3, 4), keepdim=True)
            currents = convolve(operand, self.integer_weight(j).double(), syn)
            if not pointwise:
                positions = currents.shape[3] * currents.shape[4]
            total = total + currents.sum((0, 3, 4)) * repeat
        return total + self.integer_bias().double() * (self.timesteps * positions)

    @torch.no_grad()
    def to_layer(self) -> Layer:
        """The integer layer as it is now."""
        s = self.scaled
        synapses = tuple(
            Synapses(whole_numbers(self.integer_weight(j), torch.int8), syn.sources, syn.stride,
                     syn.padding, syn.sum_pool, syn.bits) for j, syn in enumerate(s.synapses))
        return Layer(s.name, synapses, whole_numbers(self.integer_bias(), torch.int64),
                     whole_numbers(self.threshold, torch.int64), s.neuron, s.pool, s.attention)


class NetworkTrainee(nn.Module):
    """The integer network of a trained float network, with trainable weights and biases.

    layers, spec, input_scale: as for `sw.integer.quantize.convert`. masks: survivors by layer name,
    of the float weight's shape, a sequence where there are several connections (None for one that
    keeps its weights); layers without one keep the weights that are not 0.

    forward: integers [B, C, H, W] (static) or [B, T, C, H, W] as `prepare` gives them -> logits as
    the float layers give them, summed over timesteps and positions. `kept`, bool [B, N], goes to a
    gate with masks from the host.
    """

    def __init__(self, layers: Sequence[FloatOperation], spec: InputSpec, timesteps: int,
                 masks: Mapping[str, Tensor | Sequence[Tensor | None]] | None = None, *,
                 input_scale: float = 1.0):
        super().__init__()
        self.spec, self.timesteps = spec, timesteps
        self.operations = scale(layers, input_scale)
        scaled = [s for s in self.operations if isinstance(s, ScaledLayer)]
        masks = dict(masks or {})
        unknown = sorted(set(masks) - {s.name for s in scaled})
        if unknown:
            raise SpikeTicketError(f"masks for {', '.join(unknown)}, which are no layers; there "
                                   f"are {', '.join(s.name for s in scaled)}")
        thetas = [float(s.floats.theta.median()) for s in scaled if s.floats is not None]
        size = float(np.median(thetas)) if thetas else 1.0
        self.layers = nn.ModuleList(TraineeLayer(s, timesteps, size, _masks(masks.get(s.name), s))
                                    for s in scaled)
        network = self.to_network()     # raises where widths or shapes disagree
        for module in self.layers:
            if module.largest(network) >= 1 << 24:
                module.dtype = torch.float64
        self.to(memory_format=torch.channels_last)

    @staticmethod
    def prepare(images: Tensor) -> Tensor:
        """uint8 images or event counts to the integers that `forward` takes."""
        return images.float()

    def logits(self, x: Tensor, spikes: dict[str, Tensor] | None = None,
               kept: Tensor | None = None) -> Tensor:
        """Whole-number logits float64 [B, classes]; `spikes` receives every map by layer name."""
        sums: dict[tuple[str, ...], Tensor] = {}
        modules = {module.scaled.name: module for module in self.layers}
        return walk(self.operations, x.unsqueeze(0) if self.spec.static else x.transpose(0, 1),
                    lambda layer, maps: modules[layer.name](maps, sums),
                    None if kept is None else kept.cpu().numpy(), spikes)

    def forward(self, x: Tensor, spikes: dict[str, Tensor] | None = None,
                kept: Tensor | None = None) -> Tensor:
        return (self.logits(x, spikes, kept) * float(self.layers[-1].scaled.unit[0])).float()

    def sparsity(self) -> float:
        """Fraction of all integer weights that are 0."""
        return self.to_network().sparsity

    def to_network(self, name: str = "ticket", labels: tuple[str, ...] = ()) -> Network:
        """The same network as the `sw.integer.network.Network` that is saved and compiled."""
        modules = {module.scaled.name: module for module in self.layers}
        layers = tuple(modules[s.name].to_layer() if isinstance(s, ScaledLayer) else s
                       for s in self.operations)
        return Network(self.spec, self.timesteps, layers, name, labels)


def _ratio(steps: Tensor) -> Tensor:
    """[C]: the size of a channel's survivors in units times the root of 3 fan-in, as the next power
    of two, so that rounding is that of the weights [C, ...] themselves."""
    rows = steps.flatten(1)
    alive = (rows != 0).sum(1).clamp_min(1)
    size = (rows.square().sum(1) / alive).sqrt() * (3 * rows.shape[1]) ** 0.5
    return torch.where(size > 0, 2.0 ** size.clamp_min(1e-30).log2().ceil(), 1.0)


def _masks(given: Tensor | Sequence[Tensor | None] | None,
           scaled: ScaledLayer) -> Sequence[Tensor | None]:
    """One mask, or None, for every connection."""
    if given is None:
        return [None] * len(scaled.synapses)
    if isinstance(given, Tensor):
        given = [given]
    if len(given) != len(scaled.synapses):
        raise SpikeTicketError(f"layer {scaled.name!r}: {len(given)} masks for "
                               f"{len(scaled.synapses)} connections")
    return given


def _operand(sources: tuple[str, ...], maps: dict[str, Tensor],
             sums: dict[tuple[str, ...], Tensor]) -> Tensor:
    """Sum of maps; a residual stream grows map by map, so shorter sums are kept in `sums`."""
    if len(sources) == 1:
        return maps[sources[0]]
    if sources not in sums:
        sums[sources] = _operand(sources[:-1], maps, sums) + maps[sources[-1]]
    return sums[sources]


def whole_numbers(x: Tensor, dtype: torch.dtype) -> np.ndarray:
    """Whole numbers held in floats, as a contiguous array of an integer type."""
    return np.ascontiguousarray(x.detach().round().to(dtype).cpu().numpy())
