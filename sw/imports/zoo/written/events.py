"""Event networks, batch first: N-MNIST counted by a loop, gestures with two kinds of heads."""

from __future__ import annotations

import torch
from spikingjelly.activation_based import layer
from torch import nn

from ..entry import Entry


class NMNISTLoop(nn.Module):
    """[B, T, 2, 34, 34]; every frame through single-step modules; outputs stacked, then summed."""

    def __init__(self, node):
        super().__init__()
        self.conv1, self.lif1 = nn.Conv2d(2, 6, 5), node()
        self.conv2, self.lif2 = nn.Conv2d(6, 8, 5), node()
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(8 * 5 * 5, 10)
        self.lif3 = node()

    def forward(self, data):
        spk_rec = []
        for step in range(data.size(1)):
            x = self.pool(self.lif1(self.conv1(data[:, step])))
            x = self.pool(self.lif2(self.conv2(x)))
            spk_rec.append(self.lif3(self.fc1(x.view(x.size(0), -1))))
        return torch.stack(spk_rec).sum(dim=0)


class GestureNet(nn.Module):
    """Multi-step modules behind a transpose; five stages by a loop in __init__, two heads."""

    def __init__(self, node, stages: int = 3):
        super().__init__()
        body, a = [], 2
        for _ in range(stages):
            body += [layer.Conv2d(a, 8, 3, padding=1, bias=False, step_mode="m"),
                     layer.BatchNorm2d(8, step_mode="m"), node(step_mode="m"),
                     layer.MaxPool2d(2, 2, step_mode="m")]
            a = 8
        self.body = nn.ModuleList(body)
        self.head = nn.Sequential(layer.Flatten(step_mode="m"),
                                  layer.Linear(8 * 4 * 4, 55, step_mode="m"),
                                  node(step_mode="m"), layer.VotingLayer(5, step_mode="m"))

    def forward(self, x):
        x = x.transpose(0, 1)
        for part in self.body:
            x = part(x)
        return self.head(x).mean(dim=0)


class ReshapedGesture(GestureNet):
    """The output as [B, T, classes], for a loss that averages over T itself."""

    def forward(self, x):
        x = torch.einsum("btchw->tbchw", x)
        for part in self.body:
            x = part(x)
        return torch.swapaxes(self.head(x), 0, 1)


ENTRIES = (
    Entry("nmnist", "N-MNIST, batch first: data[:, step] through single-step modules", NMNISTLoop,
          (2, 34, 34), timesteps=8, feed="batch first", static=False, neurons=("LIF", "IF")),
    Entry("gesture", "gestures, batch first: x.transpose(0, 1), ModuleList of stages", GestureNet,
          (2, 32, 32), timesteps=16, feed="batch first", static=False, neurons=("LIF", "PLIF")),
    Entry("gesture-logits", "gestures, batch first in and out ([B, T, classes])", ReshapedGesture,
          (2, 32, 32), timesteps=20, feed="batch first", static=False, neurons=("LIF",)),
)
