"""SEW-ResNet for gestures: blocks in Sequentials, spikes joined by add, and, iand.

Blocks are made from a list of dictionaries; convolutions and norms sit in a SeqToANNContainer, the
neurons outside; event frames come as [B, T, C, H, W] and are permuted; T = 16; the last convolution
reads maps that sums of spikes made larger than 1.
"""

from __future__ import annotations

from spikingjelly.activation_based import layer
from torch import nn

from ..entry import ALL, Entry


def conv3x3(node, a: int, b: int) -> nn.Sequential:
    return nn.Sequential(
        layer.SeqToANNContainer(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b)),
        node(step_mode="m"))


class SEWBlock(nn.Module):
    def __init__(self, node, width: int, connect: str):
        super().__init__()
        self.connect_f = connect
        self.conv = nn.Sequential(conv3x3(node, width, width), conv3x3(node, width, width))

    def forward(self, x):
        out = self.conv(x)
        if self.connect_f == "ADD":
            out += x
        elif self.connect_f == "AND":
            out *= x
        elif self.connect_f == "IAND":
            out = x * (1. - out)
        else:
            raise NotImplementedError(self.connect_f)
        return out


class GestureSEW(nn.Module):
    def __init__(self, node, connect: str):
        super().__init__()
        layers = [{"channels": 8, "up": True, "blocks": 1}, {"channels": 8, "blocks": 1}]
        a, parts = 2, []
        for options in layers:
            b = options["channels"]
            if options.get("up"):
                parts.append(conv3x3(node, a, b))
            parts += [SEWBlock(node, b, connect) for _ in range(options["blocks"])]
            parts.append(layer.SeqToANNContainer(nn.MaxPool2d(2, 2)))
            a = b
        if connect == "ADD":                # counts reach 3: a convolution reads their sum
            parts[-1] = layer.SeqToANNContainer(nn.AvgPool2d(2, 2))
            parts[2] = layer.SeqToANNContainer(nn.AvgPool2d(2, 2))
        self.conv = nn.Sequential(*parts)
        self.out = nn.Sequential(nn.Flatten(2), nn.Linear(8 * 4 * 4, 11, bias=True))

    def forward(self, x):
        x = x.permute(1, 0, 2, 3, 4)        # [T, N, 2, *, *]
        x = self.conv(x)
        return self.out(x).mean(0)


ENTRIES = tuple(
    Entry(f"sew-gesture-{c.lower()}", f"SEW-ResNet for gestures, {c}, batch first, T = 16",
          (lambda node, c=c: GestureSEW(node, c)), (2, 16, 16), timesteps=16, feed="batch first",
          static=False, neurons=ALL if c == "ADD" else ("LIF",)) for c in ("ADD", "AND", "IAND"))
