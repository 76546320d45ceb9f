"""DenseNet-like networks: torch.cat of channels, read by convolutions, pools and linear layers."""

from __future__ import annotations

import torch
from torch import nn

from ..entry import Entry


class Grown(nn.Module):
    """Norm, neuron, convolution on everything so far; its own channels are appended."""

    def __init__(self, node, a: int, growth: int):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(a, growth, 3, padding=1), nn.BatchNorm2d(growth)
        self.fire = node()

    def forward(self, x):
        return torch.cat([x, self.fire(self.norm(self.conv(x)))], dim=1)


class SpikingDense(nn.Module):
    def __init__(self, node):
        super().__init__()
        self.stem, self.fire = nn.Conv2d(2, 6, 3, stride=2, padding=1), node()
        self.blocks = nn.Sequential(Grown(node, 6, 4), Grown(node, 10, 4))
        self.transition = nn.Sequential(nn.Conv2d(14, 8, 1), nn.AvgPool2d(2))
        self.last = node()
        self.late = nn.Sequential(Grown(node, 8, 4), nn.MaxPool2d(2))
        self.fc = nn.Linear(12 * 2 * 2, 10)

    def forward(self, x):
        x = self.blocks(self.fire(self.stem(x)))
        x = self.late(self.last(self.transition(x)))
        return self.fc(x.flatten(1))


ENTRIES = (Entry("dense", "torch.cat of channels; average pool of currents; max pool of a cat",
                 SpikingDense, (2, 16, 16), timesteps=5, feed="steps", static=False,
                 neurons=("LIF", "IF")),)
