"""CSNNs of tutorials: Sequential of SpikingJelly layers, the image repeated, a voting layer.

One is written in multi-step mode with the mean over time inside, one in single-step mode with the
training script's own loop outside.
"""

from __future__ import annotations

from spikingjelly.activation_based import functional, layer
from torch import nn

from ..entry import ALL, Entry


class TutorialCSNN(nn.Module):
    def __init__(self, node, steps: int = 4, channels: int = 8):
        super().__init__()
        self.T = steps
        self.conv_fc = nn.Sequential(
            layer.Conv2d(1, channels, kernel_size=3, padding=1, bias=False),
            layer.BatchNorm2d(channels), node(), layer.MaxPool2d(2, 2),
            layer.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
            layer.BatchNorm2d(channels), node(), layer.MaxPool2d(2, 2), layer.Flatten(),
            layer.Linear(channels * 7 * 7, channels * 4 * 4, bias=False), node(),
            layer.Linear(channels * 4 * 4, 10, bias=False), node())
        functional.set_step_mode(self, step_mode="m")

    def forward(self, x):
        x_seq = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        x_seq = self.conv_fc(x_seq)
        return x_seq.mean(0)


class VotingCSNN(nn.Module):
    def __init__(self, node):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 8, 5, bias=False), nn.BatchNorm2d(8), node(), nn.AvgPool2d(2, 2),
            nn.Conv2d(8, 12, 5, bias=False), nn.BatchNorm2d(12), node(), nn.AvgPool2d(2, 2))
        self.fc = nn.Sequential(layer.Flatten(), layer.Dropout(0.5), nn.Linear(12 * 4 * 4, 50),
                                node(), layer.VotingLayer(5))

    def forward(self, x):
        return self.fc(self.conv(x))


ENTRIES = (
    Entry("csnn", "SpikingJelly's Fashion-MNIST tutorial: repeat T times, mean(0)", TutorialCSNN,
          (1, 28, 28), feed="image", neurons=ALL),
    Entry("csnn-voting", "CSNN with VotingLayer, single-step mode, loop over T outside",
          VotingCSNN, (1, 28, 28), timesteps=5, feed="steps", neurons=("IF", "LIF")),
)
