"""VGG as temporal efficient training writes it: [B, T, ...] throughout, a logit per timestep.

`SeqToANN` merges batch and time around any torch layers; `LIFSpike` loops over axis 1 and resets by
multiplication; tdBN scales a batch norm by alpha * V_th; the loss is taken at every timestep, so
forward returns [B, T, classes].
"""

from __future__ import annotations

import torch
from torch import nn

from ..entry import Entry


class ZIF(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gama: float):
        ctx.save_for_backward(x)
        ctx.gama = gama
        return (x >= 0).to(x)

    @staticmethod
    def backward(ctx, grad):
        x, = ctx.saved_tensors
        return grad * (1 / ctx.gama) ** 2 * (ctx.gama - x.abs()).clamp(min=0), None


class LIFSpike(nn.Module):
    def __init__(self, thresh: float = 1.0, tau: float = 0.5, gama: float = 1.0):
        super().__init__()
        self.thresh, self.tau, self.gama = thresh, tau, gama
        self.act = ZIF.apply

    def forward(self, x):
        mem = 0
        spike_pot = []
        for t in range(x.shape[1]):
            mem = mem * self.tau + x[:, t, ...]
            spike = self.act(mem - self.thresh, self.gama)
            mem = (1 - spike) * mem
            spike_pot.append(spike)
        return torch.stack(spike_pot, dim=1)


class SeqToANN(nn.Module):
    def __init__(self, *modules: nn.Module):
        super().__init__()
        self.module = modules[0] if len(modules) == 1 else nn.Sequential(*modules)

    def forward(self, x):
        shape = [x.shape[0], x.shape[1]]
        y = self.module(x.flatten(0, 1).contiguous())
        shape.extend(y.size()[1:])
        return y.view(shape)


class ThresholdNorm(nn.BatchNorm2d):
    """tdBN: the normalised current times alpha * V_th, before gamma."""

    def __init__(self, channels: int, alpha: float = 0.5, v_th: float = 1.0):
        super().__init__(channels)
        self.alpha, self.v_th = alpha, v_th

    def forward(self, x):
        if self.training:
            return super().forward(x) * self.alpha * self.v_th
        mean, var = (s[None, :, None, None] for s in (self.running_mean, self.running_var))
        x = self.alpha * self.v_th * (x - mean) / torch.sqrt(var + self.eps)
        return x * self.weight[None, :, None, None] + self.bias[None, :, None, None]


class TetLayer(nn.Module):
    def __init__(self, a: int, b: int):
        super().__init__()
        self.fwd = SeqToANN(nn.Conv2d(a, b, 3, 1, 1), ThresholdNorm(b))
        self.act = LIFSpike()

    def forward(self, x):
        return self.act(self.fwd(x))


class TetVGG(nn.Module):
    def __init__(self):
        super().__init__()
        pool = SeqToANN(nn.AvgPool2d(2))
        self.features = nn.Sequential(TetLayer(2, 8), TetLayer(8, 8), pool, TetLayer(8, 16), pool)
        self.classifier = SeqToANN(nn.Dropout(0.25), nn.Linear(16 * 4 * 4, 10))

    def forward(self, input):
        x = self.features(input)
        x = torch.flatten(x, 2)
        return self.classifier(x)


class TetStaticVGG(TetVGG):
    """The static-image form: `add_dimention` repeats the image along axis 1."""

    def __init__(self, steps: int = 6):
        super().__init__()
        self.T = steps

    def forward(self, input):
        x = input.unsqueeze(1)
        x = x.repeat(1, self.T, 1, 1, 1)
        return super().forward(x)


ENTRIES = (
    Entry("tet-vgg", "TET: [B, T, C, H, W], LIFSpike over axis 1, tdBN, a logit per timestep",
          TetVGG, (2, 16, 16), timesteps=10, feed="batch first", static=False),
    Entry("tet-vgg-static", "TET: the image repeated along axis 1", TetStaticVGG, (2, 16, 16),
          timesteps=6, feed="image"),
)
