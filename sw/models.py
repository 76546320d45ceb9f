"""Float spiking CNNs on SpikingJelly neurons, the networks that tickets are searched in.

A network is a stack of blocks Conv3x3 (no bias) -> BatchNorm -> LIF -> (2x2 max-pool, an OR of
spikes), then a 1x1 convolution to the classes, averaged over positions and timesteps. The input is
static (direct coding): the first convolution and its batch norm run once and their output is the
current of every timestep.

Time is merged into the batch outside the neurons, and the neurons run all timesteps in one
autograd node (`FusedLIFNode`), so that a training step costs little more than its convolutions.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn

from .errors import SpikeTicketError


@dataclass(frozen=True)
class Block:
    """Conv3x3 -> BN -> LIF, then a 2x2 OR-pool if `pool`."""

    channels: int
    pool: bool = False


@dataclass(frozen=True)
class CNNConfig:
    """Shape of a spiking CNN.

    blocks: the convolutional blocks in order; input: (channels, height, width) in pixels.
    tau: membrane time constant; the membrane keeps 1 - 1/tau per timestep.
    """

    blocks: tuple[Block, ...]
    input: tuple[int, int, int] = (1, 28, 28)
    classes: int = 10
    timesteps: int = 4
    tau: float = 2.0

    def __post_init__(self):
        if not self.blocks:
            raise SpikeTicketError("a spiking CNN needs at least one block, e.g. 32p-64p-128")
        for i, block in enumerate(self.blocks, 1):
            if not 1 <= block.channels <= 4096:
                raise SpikeTicketError(
                    f"block {i}: {block.channels} channels are outside 1..4096; give 32p-64p-128")
        if not 1 <= self.timesteps <= 16:
            raise SpikeTicketError(f"timesteps {self.timesteps} are outside 1..16")
        if self.classes < 2:
            raise SpikeTicketError(f"classes {self.classes} are below 2")
        if self.tau <= 1.0:
            raise SpikeTicketError(f"tau {self.tau} must be above 1 (2 keeps half the membrane)")
        if min(self.map_size()) < 1:
            raise SpikeTicketError(f"the pools of {self.text()} leave nothing of "
                                   f"{self.input[1]}x{self.input[2]} pixels; drop a 'p'")

    @classmethod
    def parse(cls, text: str, **kwargs) -> CNNConfig:
        """Read "32p-64p-128": channels of each block, p where a pool follows."""
        blocks = []
        for part in text.split("-"):
            number = part.removesuffix("p")
            if not number.isdecimal():
                raise SpikeTicketError(
                    f"network {text!r}: block {part!r} is not a number of channels with an "
                    "optional p; give e.g. 32p-64p-128")
            blocks.append(Block(int(number), part.endswith("p")))
        return cls(tuple(blocks), **kwargs)

    def text(self) -> str:
        """The inverse of `parse`, without the other fields."""
        return "-".join(f"{b.channels}{'p' if b.pool else ''}" for b in self.blocks)

    def map_size(self) -> tuple[int, int]:
        """Height and width of the last spike map."""
        pools = sum(b.pool for b in self.blocks)
        return self.input[1] >> pools, self.input[2] >> pools

    def to_dict(self) -> dict:
        return {**dataclasses.asdict(self), "blocks": self.text(), "input": list(self.input)}


class _FusedLIF(torch.autograd.Function):
    """All timesteps of an LIF neuron with hard reset to 0 and detached reset.

    Forward: h_t = keep * v_{t-1} + x_t; s_t = h_t >= theta; v_t = h_t * (1 - s_t).
    Backward: the surrogate is PiecewiseQuadratic(alpha = 1), d s / d h = max(0, 1 - |h - theta|);
    a triangle, because it needs no transcendental function.
    x is [T, ...], or [...] with `steps` = T when the same current is given to every timestep.
    """

    @staticmethod
    def forward(ctx, x: Tensor, keep: float, theta: float, steps: int | None):
        static = steps is not None
        h = repeat_like(x, steps) if static else torch.empty_like(x)
        s = torch.empty_like(h)
        v = None
        for t in range(h.shape[0]):
            x_t = x if static else x[t]
            if v is None:
                h[t].copy_(x_t)
            else:
                torch.add(x_t, v, alpha=keep, out=h[t])
            torch.ge(h[t], theta, out=s[t])
            v = torch.addcmul(h[t], h[t], s[t], value=-1)
        ctx.save_for_backward(h, s)
        ctx.keep, ctx.theta, ctx.static = keep, theta, static
        ctx.mark_non_differentiable(v)
        return s, v

    @staticmethod
    def backward(ctx, grad: Tensor, _):
        h, s = ctx.saved_tensors
        g = h.sub(ctx.theta).abs_().neg_().add_(1.0).clamp_min_(0.0).mul_(grad)
        for t in range(h.shape[0] - 2, -1, -1):
            g[t].add_(g[t + 1], alpha=ctx.keep)
            g[t].addcmul_(g[t + 1], s[t], value=-ctx.keep)
        if ctx.static:
            total = g[0]
            for t in range(1, g.shape[0]):
                total.add_(g[t])
            g = total
        return g, None, None, None


def repeat_like(x: Tensor, steps: int) -> Tensor:
    """Uninitialised [steps, *x.shape] whose slices have the memory order of `x`."""
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        b, c, h, w = x.shape
        return x.new_empty(steps, b, h, w, c).permute(0, 1, 4, 2, 3)
    return x.new_empty(steps, *x.shape)


class FusedLIFNode(neuron.LIFNode):
    """SpikingJelly's LIFNode with a fast multi-step path for training on a CPU.

    v_t = (1 - 1/tau) v_{t-1} + x_t, fires at v >= 1, hard reset to 0 with the reset detached
    from the gradient, surrogate PiecewiseQuadratic(alpha=1). Same spikes and gradients as the
    parent class, which still runs the single-step mode, stored voltages and resumed states.
    """

    def __init__(self, tau: float = 2.0):
        super().__init__(tau=tau, decay_input=False, v_threshold=1.0, v_reset=0.0,
                         surrogate_function=surrogate.PiecewiseQuadratic(alpha=1.0),
                         detach_reset=True, step_mode="m")

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        """[T, ...] currents -> [T, ...] spikes."""
        if self.store_v_seq or isinstance(self.v, Tensor):
            return super().multi_step_forward(x_seq)
        spikes, self.v = _FusedLIF.apply(x_seq, 1 - 1 / self.tau, self.v_threshold, None)
        return spikes

    def forward_static(self, x: Tensor, timesteps: int) -> Tensor:
        """The same current [...] at each of `timesteps` steps -> [T, ...] spikes."""
        if self.store_v_seq or isinstance(self.v, Tensor):
            return super().multi_step_forward(x.expand(timesteps, *x.shape))
        spikes, self.v = _FusedLIF.apply(x, 1 - 1 / self.tau, self.v_threshold, timesteps)
        return spikes


def fire(node: neuron.BaseNode, currents: Tensor, steps: int) -> Tensor:
    """Spikes [T, ...] of currents [T, ...], or of [1, ...] that are the same at every timestep;
    the neurons begin at rest."""
    node.reset()
    return node(currents.expand(steps, *currents.shape[1:]))


class SpikingCNN(nn.Module):
    """The float network of a `CNNConfig`.

    forward: [B, C, H, W] images in 0..1 -> [B, classes] logits, the mean over timesteps and
    positions. `spikes` receives the pooled spike maps [T, B, C, H, W] in order if it is a list.
    """

    def __init__(self, config: CNNConfig):
        super().__init__()
        self.config = config
        self.convs, self.norms, self.neurons = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        channels = config.input[0]
        for block in config.blocks:
            self.convs.append(nn.Conv2d(channels, block.channels, 3, padding=1, bias=False))
            self.norms.append(nn.BatchNorm2d(block.channels))
            self.neurons.append(FusedLIFNode(config.tau))
            channels = block.channels
        self.readout = nn.Conv2d(channels, config.classes, 1, bias=False)
        self.to(memory_format=torch.channels_last)

    @staticmethod
    def prepare(images: Tensor) -> Tensor:
        """uint8 images to the float 0..1 that `forward` takes."""
        return images.float() / 255

    def forward(self, x: Tensor, spikes: list[Tensor] | None = None) -> Tensor:
        steps, batch = self.config.timesteps, x.shape[0]
        x = x.contiguous(memory_format=torch.channels_last)
        blocks = zip(self.config.blocks, self.convs, self.norms, self.neurons, strict=True)
        for i, (block, conv, norm, node) in enumerate(blocks):
            node.reset()
            x = norm(conv(x))
            if i == 0:
                x = node.forward_static(x, steps)
            else:
                x = node(x.unflatten(0, (steps, batch)))
            x = x.flatten(0, 1)
            if block.pool:
                x = F.max_pool2d(x, 2)
            if spikes is not None:
                spikes.append(x.unflatten(0, (steps, batch)))
        # Averaging commutes with the 1x1 convolution and is far cheaper before it.
        rates = x.float().mean((2, 3)).unflatten(0, (steps, batch)).mean(0)
        with torch.autocast("cpu", enabled=False):
            return F.linear(rates, self.readout.weight.flatten(1).float())

    def layers(self) -> dict[str, nn.Conv2d]:
        """Every layer with weights by its name, in the order of the data."""
        named = {f"conv{i}": conv for i, conv in enumerate(self.convs, 1)}
        return {**named, "readout": self.readout}

    def weights(self) -> dict[str, nn.Parameter]:
        """Every weight tensor by layer name: what is pruned, and what sparsity counts."""
        return {name: layer.weight for name, layer in self.layers().items()}
