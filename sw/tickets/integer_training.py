"""The integer network as something gradients flow through.

The forward pass is the arithmetic of `sw.network`, in float32 that holds integers exactly (bounds
are far below 2^24); rounding and floor pass gradients straight through, and a spike's surrogate
is the float network's triangle over (v - theta) * gain, where gain is the size of one integer
unit in float membranes. So learning rates mean what they meant before folding.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models import CNNConfig, SpikingCNN, repeat_like
from ..network import InputSpec, Layer, Network, Neuron, Pool, Synapses
from ..quantize import fold_block, weight_steps


class _IntegerLIF(torch.autograd.Function):
    """Integer LIF over all timesteps; x [T, B, C, H, W], or [B, C, H, W] and `steps`."""

    @staticmethod
    def forward(ctx, x: Tensor, leak: int, theta: Tensor, gain: Tensor, steps: int | None):
        static = steps is not None
        h = repeat_like(x, steps) if static else torch.empty_like(x)
        s = torch.empty_like(h)
        theta, gain = theta.view(-1, 1, 1), gain.view(-1, 1, 1)
        v = None
        for t in range(h.shape[0]):
            x_t = x if static else x[t]
            if v is None:
                h[t].copy_(x_t)
            else:
                torch.add(x_t, v.mul_(leak / 256).floor_(), out=h[t])
            torch.ge(h[t], theta, out=s[t])
            v = torch.addcmul(h[t], h[t], s[t], value=-1)
        ctx.save_for_backward(h, s, theta, gain)
        ctx.keep, ctx.static = leak / 256, static
        return s

    @staticmethod
    def backward(ctx, grad: Tensor):
        h, s, theta, gain = ctx.saved_tensors
        g = h.sub(theta).mul_(gain).abs_().neg_().add_(1.0).clamp_min_(0.0).mul_(grad)
        for t in range(h.shape[0] - 2, -1, -1):
            g[t].add_(g[t + 1], alpha=ctx.keep)
            g[t].addcmul_(g[t + 1], s[t], value=-ctx.keep)
        g.mul_(gain)
        if ctx.static:
            total = g[0]
            for t in range(1, g.shape[0]):
                total.add_(g[t])
            g = total
        return g, None, None, None, None


def _straight_through(value: Tensor, rounded: Tensor) -> Tensor:
    return value + (rounded - value).detach()


class IntegerTrainee(nn.Module):
    """Integer network of a `SpikingCNN` shape with trainable latent weights and biases.

    weight (float units) / step -> integers in -(2^(b-1) - 1)..2^(b-1) - 1; bias / gain ->
    integers; thresholds are fixed integers. forward: [B, C, H, W] integer pixels -> logits scaled
    as the float network's; `logits` gives the integers of the readout.
    """

    def __init__(self, config: CNNConfig, bits: int):
        super().__init__()
        self.config, self.bits = config, bits
        self.leak = round(256 * (1 - 1 / config.tau))
        channels = config.input[0]
        shapes = []
        for block in config.blocks:
            shapes.append((block.channels, channels, 3, 3))
            channels = block.channels
        shapes.append((config.classes, channels, 1, 1))
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros(s)) for s in shapes)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(s[0])) for s in shapes[:-1])
        for i, shape in enumerate(shapes):
            self.register_buffer(f"step{i}", torch.ones(shape[0], 1, 1, 1))
            self.register_buffer(f"mask{i}", torch.ones(shape))
            if i < len(self.biases):
                self.register_buffer(f"gain{i}", torch.ones(shape[0]))
                self.register_buffer(f"theta{i}", torch.ones(shape[0]))
        self.to(memory_format=torch.channels_last)

    @classmethod
    def from_float(cls, model: SpikingCNN, masks: dict[str, Tensor], bits: int) -> IntegerTrainee:
        """Fold the batch norms of a trained network and choose steps for its weights."""
        self = cls(model.config, bits)
        names = list(model.weights())
        with torch.no_grad():
            for i, (name, weight) in enumerate(model.weights().items()):
                weight = weight.detach().float()
                mask = masks.get(name, torch.ones_like(weight)).float()
                getattr(self, f"mask{i}").copy_(mask)
                if i == len(names) - 1:
                    self.weights[i].copy_(weight * mask)
                    getattr(self, f"step{i}").copy_(weight_steps(weight * mask, bits, False))
                    continue
                operand = 1 / 255 if i == 0 else 1.0  # float value of one integer input unit
                folded = fold_block(weight * mask, model.norms[i], bits, operand)
                self.weights[i].copy_(folded.weight)
                self.biases[i].copy_(folded.bias)
                for buffer in ("step", "gain", "theta"):
                    getattr(self, f"{buffer}{i}").copy_(getattr(folded, buffer))
        return self

    @staticmethod
    def prepare(images: Tensor) -> Tensor:
        """uint8 images to the integers that `forward` takes."""
        return images.float()

    def integer_weight(self, i: int) -> Tensor:
        top = (1 << self.bits - 1) - 1
        latent = self.weights[i] / getattr(self, f"step{i}")
        whole = latent.detach().round().clamp(-top, top) * getattr(self, f"mask{i}")
        # A masked weight gets no gradient; one beyond the clamp still does, and may come back.
        return _straight_through(latent * getattr(self, f"mask{i}"), whole)

    def integer_bias(self, i: int) -> Tensor:
        latent = self.biases[i] / getattr(self, f"gain{i}")
        return _straight_through(latent, latent.detach().round())

    def logits(self, x: Tensor, spikes: list[Tensor] | None = None) -> Tensor:
        """Integer readout [B, classes] of integer pixels [B, C, H, W]."""
        steps, batch = self.config.timesteps, x.shape[0]
        x = x.contiguous(memory_format=torch.channels_last)
        for i, block in enumerate(self.config.blocks):
            x = F.conv2d(x, self.integer_weight(i), self.integer_bias(i), padding=1)
            theta, gain = getattr(self, f"theta{i}"), getattr(self, f"gain{i}")
            if i == 0:
                x = _IntegerLIF.apply(x, self.leak, theta, gain, steps)
            else:
                x = _IntegerLIF.apply(x.unflatten(0, (steps, batch)), self.leak, theta, gain, None)
            x = x.flatten(0, 1)
            if block.pool:
                x = F.max_pool2d(x, 2)
            if spikes is not None:
                spikes.append(x.unflatten(0, (steps, batch)))
        counts = x.sum((2, 3)).unflatten(0, (steps, batch)).sum(0)
        return F.linear(counts, self.integer_weight(len(self.config.blocks)).flatten(1))

    def forward(self, x: Tensor, spikes: list[Tensor] | None = None) -> Tensor:
        height, width = self.config.map_size()
        scale = getattr(self, f"step{len(self.config.blocks)}").flatten()[0]
        return self.logits(x, spikes) * (scale / (self.config.timesteps * height * width))

    def sparsity(self) -> float:
        """Fraction of all integer weights that are zero."""
        with torch.no_grad():
            weights = [self.integer_weight(i) for i in range(len(self.weights))]
        return 1 - sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)

    def to_network(self, name: str = "ticket", labels: tuple[str, ...] = ()) -> Network:
        """The same network as the `sw.network.Network` that is saved and compiled."""
        layers, source = [], "input"
        with torch.no_grad():
            for i, block in enumerate(self.config.blocks):
                layers.append(Layer(
                    name=f"conv{i + 1}",
                    synapses=(Synapses(_int8(self.integer_weight(i)), (source,), padding=1,
                                       bits=self.bits),),
                    bias=_int64(self.integer_bias(i)),
                    threshold=_int64(getattr(self, f"theta{i}")),
                    neuron=Neuron(leak=self.leak), pool=Pool("or", 2) if block.pool else None))
                source = f"conv{i + 1}"
            readout = _int8(self.integer_weight(len(self.config.blocks)))
            zeros = np.zeros(len(readout), np.int64)
            layers.append(Layer("readout", (Synapses(readout, (source,), bits=self.bits),),
                                zeros, zeros.copy(), neuron=None))
        channels, height, width = self.config.input
        return Network(InputSpec(channels, height, width), self.config.timesteps, tuple(layers),
                       name, labels)


def _int8(x: Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.round().to(torch.int8).numpy())


def _int64(x: Tensor) -> np.ndarray:
    return x.round().to(torch.int64).numpy()
