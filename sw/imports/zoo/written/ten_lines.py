"""A LIF written in ten lines of torch: as a module, as a function, as lines in forward."""

from __future__ import annotations

import torch
from torch import nn

from ..entry import Entry


class TenLineLIF(nn.Module):
    """mem = beta * mem + x; spk = mem > thresh; mem -= spk * thresh. reset() forgets."""

    def __init__(self, beta: float = 0.5, thresh: float = 1.0):
        super().__init__()
        self.beta, self.thresh = beta, thresh
        self.mem = None

    def reset(self):
        self.mem = None

    def forward(self, x):
        if self.mem is None:
            self.mem = torch.zeros_like(x)
        self.mem = self.beta * self.mem + x
        spk = (self.mem >= self.thresh).to(x.dtype)
        self.mem = self.mem - spk * self.thresh
        return spk


class HandMade(nn.Module):
    """Plain nn.Linear and TenLineLIF, the loop in forward; a vector of event counts."""

    def __init__(self):
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(40, 24), TenLineLIF()
        self.fc2, self.lif2 = nn.Linear(24, 24), TenLineLIF(beta=0.25)
        self.fc3 = nn.Linear(24, 10)

    def forward(self, x):
        for lif in (self.lif1, self.lif2):
            lif.reset()
        out = 0
        for t in range(x.shape[0]):
            h = self.lif1(self.fc1(x[t]))
            out = out + self.fc3(self.lif2(self.fc2(h)))
        return out / x.shape[0]


def lif_steps(current, beta: float, thresh: float):
    """Spikes [T, ...] of currents [T, ...]; set to 0 by a spike, which costs one `where`."""
    mem, spikes = torch.zeros_like(current[0]), []
    for step in current:
        mem = beta * mem + step
        fired = mem >= thresh
        mem = torch.where(fired, torch.zeros_like(mem), mem)
        spikes.append(fired.to(current.dtype))
    return torch.stack(spikes)


class Functional(nn.Module):
    """No neuron module at all: decays and thresholds are numbers in forward."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.fc1, self.fc2 = nn.Linear(6 * 4 * 4, 20), nn.Linear(20, 10)

    def forward(self, x):
        T = 5
        x = self.norm(self.conv(x)).unsqueeze(0).expand(T, -1, -1, -1, -1)
        x = lif_steps(x, 0.5, 0.5)
        x = nn.functional.avg_pool2d(x.flatten(0, 1), 2).flatten(1).view(T, -1, 96)
        return self.fc2(lif_steps(self.fc1(x), 1.0, 0.25)).mean(0)


ENTRIES = (
    Entry("ten-lines", "a LIF in ten lines as a module with state, soft reset, loop in forward",
          HandMade, (40, 1, 1), timesteps=6, static=False),
    Entry("ten-lines-function", "the same as a function: no neuron module, `mem >= thresh`",
          Functional, (1, 8, 8), timesteps=5, feed="image"),
)
