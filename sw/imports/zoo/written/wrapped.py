"""What wraps weights and modules: weight_norm, pruning masks, shared weights, DataParallel."""

from __future__ import annotations

import warnings

import torch
from spikingjelly.activation_based import functional, layer
from torch import nn
from torch.nn.utils import parametrizations, prune

from ..entry import Entry


def _conv(node, *more: nn.Module) -> nn.Sequential:
    return nn.Sequential(layer.Conv2d(2, 6, 3, padding=1), node(), layer.AvgPool2d(2), *more,
                         layer.Flatten(), layer.Linear(6 * 6 * 6, 10))


def normed(node) -> nn.Module:
    """weight_norm by parametrization on every weighted layer."""
    net = _conv(node, layer.Conv2d(6, 6, 3, padding=1), node())
    for m in net:
        if isinstance(m, nn.Conv2d | nn.Linear):
            parametrizations.weight_norm(m)
    return net


def masked(node) -> nn.Module:
    """torch.nn.utils.prune, with its masks in place, as ticket searches keep them."""
    net = _conv(node, layer.Conv2d(6, 6, 3, padding=1), node())
    functional.set_step_mode(net, "m")
    for m in net:
        if isinstance(m, nn.Conv2d | nn.Linear):
            prune.random_unstructured(m, "weight", 0.5)
    return net


class Shared(nn.Module):
    """One convolution and norm used by three neurons, one after the other."""

    def __init__(self, node):
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.conv, self.norm = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.fires = nn.ModuleList(node() for _ in range(3))
        self.fc = nn.Linear(6 * 12 * 12, 10)

    def forward(self, x):
        x = self.fires[0](self.stem(x))
        for fire in self.fires[1:]:
            x = fire(self.norm(self.conv(x)) * 0.5) + x
        return self.fc(x.flatten(1))


def parallel(node) -> nn.Module:
    """DataParallel around the network, as checkpoints of two-GPU trainings load."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # without a GPU it may say so
        return nn.DataParallel(_conv(node))


class GainOffset(nn.Module):
    """A learnt gain and offset by channel, the readout scaled and shifted."""

    def __init__(self, node):
        super().__init__()
        self.conv, self.fire = nn.Conv2d(2, 6, 3, padding=1), node()
        self.gain = nn.Parameter(torch.tensor([0.5, 1.0, 2.0, 0.5, 1.0, 2.0]).view(6, 1, 1))
        self.offset = nn.Parameter(torch.full((6, 1, 1), 0.25))
        self.fc = nn.Linear(6, 10)

    def forward(self, x):
        x = self.fire(self.conv(x) * self.gain + self.offset)
        return self.fc(x.mean((-2, -1))) * 2 - 1


SHAPE = (2, 12, 12)
ENTRIES = (
    Entry("weight-norm", "torch's weight_norm parametrization", normed, SHAPE, neurons=("LIF",),
          noisy=True, steps="m"),
    Entry("prune-masks", "torch.nn.utils.prune masks in place", masked, SHAPE, neurons=("LIF",),
          steps="m"),
    Entry("shared", "one convolution used by three neurons", Shared, SHAPE, feed="steps",
          neurons=("LIF", "IF")),
    Entry("data-parallel", "DataParallel", parallel, SHAPE, neurons=("LIF",), steps="m"),
    Entry("gain-offset", "learnt gain and offset by channel before the neuron", GainOffset, SHAPE,
          feed="steps", neurons=("LIF", "PLIF")),
)
