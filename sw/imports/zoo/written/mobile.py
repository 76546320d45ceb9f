"""Depthwise-separable networks: two or three linear layers in a row before a neuron."""

from __future__ import annotations

from spikingjelly.activation_based import layer
from torch import nn

from ..entry import Entry


class Separable(nn.Sequential):
    """Depthwise 3x3, norm, pointwise, norm, neuron: nothing spikes between the convolutions."""

    def __init__(self, node, a: int, b: int, stride: int = 1):
        super().__init__(
            layer.Conv2d(a, a, 3, stride, 1, groups=a, bias=False, step_mode="m"),
            layer.BatchNorm2d(a, step_mode="m"),
            layer.Conv2d(a, b, 1, bias=False, step_mode="m"),
            layer.BatchNorm2d(b, step_mode="m"), node(step_mode="m"))


class Inverted(nn.Module):
    """Wide, depthwise, narrow, with a neuron behind each and the shortcut around all."""

    def __init__(self, node, width: int):
        super().__init__()
        self.expand = nn.Sequential(layer.Conv2d(width, 2 * width, 1, step_mode="m"),
                                    node(step_mode="m"))
        self.depth = nn.Sequential(
            layer.Conv2d(2 * width, 2 * width, 5, padding=2, groups=2 * width, step_mode="m"),
            node(step_mode="m"))
        self.narrow = layer.Conv2d(2 * width, width, 1, step_mode="m")
        self.out = node(step_mode="m")

    def forward(self, x):
        return self.out(self.narrow(self.depth(self.expand(x))) + x)


class SpikingMobile(nn.Module):
    def __init__(self, node):
        super().__init__()
        self.features = nn.Sequential(
            layer.Conv2d(3, 8, 3, (2, 1), 1, bias=False, step_mode="m"),
            layer.BatchNorm2d(8, step_mode="m"), node(step_mode="m"), Separable(node, 8, 12, 2),
            Inverted(node, 12), layer.AvgPool2d((1, 2), step_mode="m"), Separable(node, 12, 16))
        self.pool = layer.AdaptiveAvgPool2d(1, step_mode="m")
        self.classifier = layer.Linear(16, 10, step_mode="m")

    def forward(self, x):
        return self.classifier(self.pool(self.features(x)).flatten(2)).mean(0)


ENTRIES = (Entry("separable", "depthwise then pointwise before a neuron; strides that differ",
                 SpikingMobile, (3, 16, 16), neurons=("LIF", "IF")),)
