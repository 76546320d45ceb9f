"""MS-ResNet as written: the time loop inside a neuron of its own, time folded into the batch.

`mem_update` holds nothing between calls and walks over the first axis; the spike function is an
autograd function that fires strictly above its threshold; convolutions and norms are subclasses
that merge time and batch in forward.
"""

from __future__ import annotations

import torch
from torch import nn

from ..entry import Entry


class FireAbove(torch.autograd.Function):
    @staticmethod
    def forward(ctx, membrane, thresh: float):
        ctx.save_for_backward(membrane)
        ctx.thresh = thresh
        return membrane.gt(thresh).to(membrane)

    @staticmethod
    def backward(ctx, grad):
        membrane, = ctx.saved_tensors
        return grad * (abs(membrane - ctx.thresh) < 0.5), None


class MemUpdate(nn.Module):
    """mem = mem * decay * (1 - spike) + x; spike = mem > thresh."""

    def __init__(self, decay: float = 0.25, thresh: float = 0.5):
        super().__init__()
        self.decay, self.thresh = decay, thresh

    def forward(self, x):
        mem, spike = torch.zeros_like(x[0]), torch.zeros_like(x[0])
        output = torch.zeros_like(x)
        for i in range(x.shape[0]):
            mem = mem * self.decay * (1 - spike.detach()) + x[i] if i >= 1 else x[i]
            spike = FireAbove.apply(mem, self.thresh)
            output[i] = spike
        return output


class SnnConv(nn.Conv2d):
    def forward(self, x):
        t, b = x.shape[:2]
        return super().forward(x.reshape(t * b, *x.shape[2:])).unflatten(0, (t, b))


class SnnNorm(nn.BatchNorm2d):
    def forward(self, x):
        t, b = x.shape[:2]
        return super().forward(x.flatten(0, 1)).unflatten(0, (t, b))


class MembraneBlock(nn.Module):
    def __init__(self, a: int, b: int, stride: int):
        super().__init__()
        self.residual_function = nn.Sequential(
            MemUpdate(), SnnConv(a, b, 3, stride, 1, bias=False), SnnNorm(b),
            MemUpdate(), SnnConv(b, b, 3, 1, 1, bias=False), SnnNorm(b))
        self.shortcut = nn.Sequential()
        if stride != 1 or a != b:
            self.shortcut = nn.Sequential(SnnConv(a, b, 1, stride, bias=False), SnnNorm(b))

    def forward(self, x):
        return self.residual_function(x) + self.shortcut(x)


class WrittenMSResNet(nn.Module):
    def __init__(self, steps: int = 6):
        super().__init__()
        self.time_window = steps
        self.conv1 = nn.Sequential(SnnConv(3, 8, 3, 1, 1, bias=False), SnnNorm(8))
        self.mem_update = MemUpdate()
        self.conv2_x = nn.Sequential(MembraneBlock(8, 8, 1))
        self.conv3_x = nn.Sequential(MembraneBlock(8, 16, 2), MembraneBlock(16, 16, 1))
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        input = torch.zeros(self.time_window, *x.size(), device=x.device, dtype=x.dtype)
        for i in range(self.time_window):
            input[i] = x
        out = self.conv3_x(self.conv2_x(self.conv1(input)))
        out = self.mem_update(out)
        out = nn.functional.adaptive_avg_pool3d(out, (None, 1, 1))
        out = self.fc(out.view(out.shape[0], out.shape[1], -1))
        return out.mean(dim=0)


ENTRIES = (Entry("ms-resnet", "MS-ResNet: mem_update walks over time in forward, fires at v > θ",
                 WrittenMSResNet, (3, 12, 12), timesteps=6, feed="image", light=True),)
