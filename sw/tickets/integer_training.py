"""The integer network as something gradients flow through.

The forward pass is the arithmetic of `sw.integer.network`, in float32 that holds integers exactly
(bounds are far below 2^24); rounding and floor pass gradients straight through, and a spike's
surrogate is the float network's triangle over (v - theta) * gain, where gain is the size of one
integer unit in float membranes. So learning rates mean what they meant before folding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SpikeTicketError
from ..integer.firing import THRESHOLD_LIMIT
from ..integer.network import LEAK_ONE, InputSpec, Layer, Network, Neuron, Pool, Synapses
from ..integer.trainee import IntegerLIF, straight_through, whole_numbers
from ..integer.units import BIAS_LIMIT, CONSTANT_THETA, largest_weight, whole
from ..models import CNNConfig, SpikingCNN


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


class RoundedWeight(nn.Module):
    """Parametrization of a float weight: its survivors, rounded to integers times `step`.

    step: [C_out, 1, 1, 1], that of `weight_steps` for the weight as it is now; it stays.
    """

    def __init__(self, weight: Tensor, mask: Tensor, bits: int, per_channel: bool):
        super().__init__()
        self.bits = bits
        self.register_buffer("mask", mask.to(weight.dtype))
        self.register_buffer("step", weight_steps(weight.detach() * self.mask, bits, per_channel))

    def forward(self, w: Tensor) -> Tensor:
        """Trained w -> effective W, of one shape; the gradient of the survivors goes straight
        through, beyond the largest integer, too."""
        w = w * self.mask
        return straight_through(w, whole(w.detach() / self.step, self.bits) * self.step)


class IntegerTrainee(nn.Module):
    """Integer network of a `SpikingCNN` shape with trainable latent weights and biases.

    weight (float units) / step -> integers in -(2^(b-1) - 1)..2^(b-1) - 1; bias / gain ->
    integers; thresholds are fixed integers. forward: [B, C, H, W] integer pixels -> logits scaled
    as the float network's; `logits` gives the integers of the readout.
    """

    def __init__(self, config: CNNConfig, bits: int):
        super().__init__()
        self.config, self.bits = config, bits
        self.neuron = Neuron(leak=round(LEAK_ONE * (1 - 1 / config.tau)))
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
    def from_float(cls, model: SpikingCNN, masks: dict[str, Tensor], bits: int,
                   steps: dict[str, Tensor] | None = None) -> IntegerTrainee:
        """Fold the batch norms of a trained network; steps of its weights by layer name (None:
        those of `weight_steps`)."""
        steps = steps or {}
        self = cls(model.config, bits)
        names = list(model.weights())
        with torch.no_grad():
            for i, (name, weight) in enumerate(model.weights().items()):
                weight = weight.detach().float()
                mask = masks.get(name, torch.ones_like(weight)).float()
                getattr(self, f"mask{i}").copy_(mask)
                if i == len(names) - 1:
                    self.weights[i].copy_(weight * mask)
                    getattr(self, f"step{i}").copy_(
                        steps.get(name, weight_steps(weight * mask, bits, False)))
                    continue
                operand = 1 / 255 if i == 0 else 1.0  # float value of one integer input unit
                folded = fold_block(weight * mask, model.norms[i], bits, operand,
                                    step=steps.get(name))
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
        latent, mask = self.weights[i] / getattr(self, f"step{i}"), getattr(self, f"mask{i}")
        # A masked weight gets no gradient; one beyond the clamp still does, and may come back.
        return straight_through(latent * mask, whole(latent.detach(), self.bits) * mask)

    def integer_bias(self, i: int) -> Tensor:
        latent = self.biases[i] / getattr(self, f"gain{i}")
        return straight_through(latent, latent.detach().round())

    def logits(self, x: Tensor, spikes: list[Tensor] | None = None) -> Tensor:
        """Integer readout [B, classes] of integer pixels [B, C, H, W]."""
        steps, batch = self.config.timesteps, x.shape[0]
        x = x.contiguous(memory_format=torch.channels_last)
        for i, block in enumerate(self.config.blocks):
            x = F.conv2d(x, self.integer_weight(i), self.integer_bias(i), padding=1)
            theta, gain = getattr(self, f"theta{i}"), getattr(self, f"gain{i}")
            if i == 0:
                x = IntegerLIF.apply(x, self.neuron, theta, gain, steps)
            else:
                x = IntegerLIF.apply(x.unflatten(0, (steps, batch)), self.neuron, theta, gain, None)
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
        """The same network as the `sw.integer.network.Network` that is saved and compiled."""
        layers, source = [], "input"
        with torch.no_grad():
            for i, block in enumerate(self.config.blocks):
                layers.append(Layer(
                    name=f"conv{i + 1}",
                    synapses=(Synapses(whole_numbers(self.integer_weight(i), torch.int8),
                                       (source,), padding=1, bits=self.bits),),
                    bias=whole_numbers(self.integer_bias(i), torch.int64),
                    threshold=whole_numbers(getattr(self, f"theta{i}"), torch.int64),
                    neuron=self.neuron, pool=Pool("or", 2) if block.pool else None))
                source = f"conv{i + 1}"
            readout = whole_numbers(self.integer_weight(len(self.config.blocks)), torch.int8)
            zeros = np.zeros(len(readout), np.int64)
            layers.append(Layer("readout", (Synapses(readout, (source,), bits=self.bits),),
                                zeros, zeros.copy(), neuron=None))
        channels, height, width = self.config.input
        return Network(InputSpec(channels, height, width), self.config.timesteps, tuple(layers),
                       name, labels)
