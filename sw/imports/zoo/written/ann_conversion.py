"""ANN to SNN: SpikingJelly's ann2snn on a trained ReLU network (here: one with random weights).

Its graph module holds IFNodes with soft reset between two VoltageScalers, which multiply by the
largest activation seen and its inverse.
"""

from __future__ import annotations

import contextlib
import io

import torch
from spikingjelly.activation_based import ann2snn
from torch import nn

from ..entry import Entry


def converted() -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    ann = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(8 * 4 * 4, 32), nn.ReLU(), nn.Linear(32, 10)).eval()
    data = [(torch.rand(8, 1, 16, 16, generator=generator), torch.zeros(8)) for _ in range(2)]
    recipe = ann2snn.RateCodingRecipe(dataloader=data, mode="max")
    with contextlib.redirect_stderr(io.StringIO()):     # its progress bar
        return ann2snn.Converter(recipe).convert(ann)


ENTRIES = (Entry("ann2snn", "ann2snn: VoltageScaler, IFNode with soft reset, VoltageScaler",
                 converted, (1, 16, 16), timesteps=8, feed="steps"),)
