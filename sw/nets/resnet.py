"""Spiking ResNets with the shortcut added before the neuron (Zheng et al. 2011.05280).

A block is Conv-BN-LIF-Conv-BN, plus the shortcut (identity, or 1x1 Conv-BN where the shape
changes), then LIF. Behind the blocks: average over positions, Linear-LIF, Linear.
"""

from __future__ import annotations

import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn

from .config import NetConfig
from .neurons import fire
from .parts import ConvBlock, DenseBlock, SpikingNet


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the currents add up in the second neuron."""

    def __init__(self, config: NetConfig, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.steps = config.timesteps
        self.first = ConvBlock(config, channels_in, channels, stride=stride)
        self.conv = layer.Conv2d(channels, channels, 3, 1, 1, bias=False, step_mode="m")
        self.norm = layer.BatchNorm2d(channels, step_mode="m")
        self.project = None
        if stride != 1 or channels_in != channels:
            self.project = layer.Conv2d(channels_in, channels, 1, stride, bias=False,
                                        step_mode="m")
            self.project_norm = layer.BatchNorm2d(channels, step_mode="m")
        self.node = config.node()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.project is None else self.project_norm(self.project(x))
        return fire(self.node, self.norm(self.conv(self.first(x))) + shortcut, self.steps)


class SpikingResNet(SpikingNet):
    """stem channels, then stages of (blocks, channels); every stage but the first halves the map.

    ResNet-19 is stem 64, stages (3, 128) (3, 256) (2, 512), hidden 256: 12,630,858 parameters with
    10 classes, as in arXiv 2311.12060 (the first stage's first block widens with a projection; the
    batch norm of the hidden layer has no parameters).
    """

    def __init__(self, config: NetConfig, stem: int = 64,
                 stages: tuple[tuple[int, int], ...] = ((3, 128), (3, 256), (2, 512)),
                 hidden: int = 256):
        super().__init__(config)
        self.stem = ConvBlock(config, config.input[0], stem)
        self.blocks = nn.ModuleList()
        channels = stem
        for s, (count, out) in enumerate(stages):
            for b in range(count):
                stride = 2 if s > 0 and b == 0 else 1
                self.blocks.append(ResidualBlock(config, channels, out, stride))
                channels = out
        self.hidden = DenseBlock(config, channels, hidden, bias=True, affine=False)
        self.readout = layer.Linear(hidden, config.classes)
        self.to(memory_format=torch.channels_last)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.mean(self.hidden(x.mean((3, 4))))
