"""Input normalisation inside forward, before a convolution that pads with zeros.

`(x - mean) / std` by channel: a border pixel of the padded map is 0, not -mean / std, so the bias
of the first layer differs by position.
"""

from __future__ import annotations

import torch
from spikingjelly.activation_based import functional, layer
from torch import nn

from ..entry import Entry


class NormalisedNet(nn.Module):
    def __init__(self, node, steps: int = 4):
        super().__init__()
        self.T = steps
        self.register_buffer("mean", torch.tensor([0.5, 0.375, 0.25]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.25, 0.5, 0.25]).view(1, 3, 1, 1))
        self.layers = nn.Sequential(
            layer.Conv2d(3, 8, 3, padding=1, bias=False), layer.BatchNorm2d(8), node(),
            layer.MaxPool2d(2), layer.Conv2d(8, 8, 3, padding=1), node(),
            layer.AdaptiveAvgPool2d((2, 2)), layer.Flatten(), layer.Linear(8 * 2 * 2, 10))
        functional.set_step_mode(self, "m")

    def forward(self, x):
        x = (x - self.mean) / self.std
        x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        return self.layers(x).mean(0)


class Centred(nn.Module):
    """2 * x - 1, a zero pad by module, a convolution without padding."""

    def __init__(self, node):
        super().__init__()
        self.pad, self.conv, self.fire = nn.ZeroPad2d((1, 2, 1, 0)), nn.Conv2d(1, 6, 3), node()
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(6 * 11 * 13, 10))

    def forward(self, x):
        return self.head(self.fire(self.conv(self.pad(x * 2 - 1))))


ENTRIES = (
    Entry("normalised", "(x - mean) / std in forward before zero padding", NormalisedNet,
          (3, 12, 12), feed="image", neurons=("LIF", "IF")),
    Entry("centred", "x * 2 - 1, unequal ZeroPad2d", Centred, (1, 12, 12), feed="steps",
          neurons=("LIF",)),
)
