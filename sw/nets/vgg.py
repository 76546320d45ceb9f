"""Spiking VGGs and small CNNs: a chain of convolutions, then fully connected layers.

Written as blocks: "64-64p-128-128p-256-256p-f256-f256" is VGG-9: channels of 3x3 convolutions, p
where a 2x2 pool follows, f for fully connected. Without f the readout sees the mean over positions.
"""

from __future__ import annotations

import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn

from ..errors import SpikeTicketError
from ..integer.folding import Connection, ModuleLayer
from .config import NetConfig
from .parts import ConvBlock, DenseBlock, SpikingNet, source_of, width

VGG9 = "64-64p-128-128p-256-256p-f256-f256"
"""With 3x32x32 pixels and 10 classes: 2,261,184 weights, as in arXiv 2311.12060."""

VGG16 = "64-64p-128-128p-256-256-256p-512-512-512p-512-512-512p"
"""As in Kim et al. 2207.01382."""


def parse(text: str) -> tuple[list[tuple[int, bool]], list[int]]:
    """([(channels, pool)], [features]) of a chain of blocks. Raises SpikeTicketError."""
    convs, dense = [], []
    for part in text.split("-"):
        is_dense = part.startswith("f")
        number = part[1:] if is_dense else part.removesuffix("p")
        if not number.isdecimal() or not 1 <= int(number) <= 4096 or (dense and not is_dense):
            raise SpikeTicketError(
                f"network {text!r}: block {part!r} is not channels 1..4096 with an optional p, or "
                "f with features behind the convolutions; give e.g. 32p-64p-f128")
        if is_dense:
            dense.append(int(number))
        else:
            convs.append((int(number), part.endswith("p")))
    if not convs:
        raise SpikeTicketError(f"network {text!r} has no convolution; give e.g. 32p-64p-f128")
    return convs, dense


class SpikingVGG(SpikingNet):
    """The network of a chain of blocks; `blocks` gives them where `config.model` is a name."""

    def __init__(self, config: NetConfig, blocks: str | None = None):
        super().__init__(config)
        convs, dense = parse(blocks or config.model)
        channels, height, width = config.input
        self.convs, self.dense = nn.ModuleList(), nn.ModuleList()
        for out, pool in convs:
            self.convs.append(ConvBlock(config, channels, out, pool=pool))
            channels = out
            height, width = (height // 2, width // 2) if pool else (height, width)
        if min(height, width) < 1:
            raise SpikeTicketError(f"the pools of {config.model} leave nothing of "
                                   f"{config.input[1]}x{config.input[2]} pixels; drop a 'p'")
        features = channels * height * width if dense else channels
        for out in dense:
            self.dense.append(DenseBlock(config, features, out))
            features = out
        self.readout = layer.Linear(features, config.classes, bias=False)
        self.to(memory_format=torch.channels_last)

    def features(self, x: Tensor) -> Tensor:
        for block in self.convs:
            x = block(x)
        if not self.dense:
            return x.float().mean((0, 3, 4))
        x = x.flatten(2)
        for block in self.dense:
            x = block(x)
        return x.float().mean(0)

    def float_layers(self, bits: int) -> list[ModuleLayer]:
        layers: list[ModuleLayer] = []
        for i, block in enumerate(self.convs, 1):
            layers.append(block.float_layer(f"conv{i}", source_of(layers), bits))
        for i, block in enumerate(self.dense, 1):
            layers.append(block.float_layer(f"fc{i}", source_of(layers), bits))
        return [*layers, ModuleLayer("readout", (Connection(
            self.readout if self.dense else as_1x1(self.readout), None, (source_of(layers),),
            bits=width(self.readout, bits)),))]


def as_1x1(linear: nn.Linear) -> nn.Conv2d:
    """The same weights as a 1x1 convolution: the integer readout sums over positions."""
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1, bias=linear.bias is not None)
    conv.weight.data = linear.weight.detach()[:, :, None, None].clone()
    if linear.bias is not None:
        conv.bias.data = linear.bias.detach().clone()
    return conv
