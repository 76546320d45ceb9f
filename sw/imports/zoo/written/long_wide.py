"""T = 20 on a sensor 128 wide, pooled at once: the shape of DVS128 Gesture networks.

The input is pooled by its largest value (`MaxPool2d` on frames) in one, summed in the other.
"""

from __future__ import annotations

from spikingjelly.activation_based import functional, layer
from torch import nn

from ..entry import Entry


class WideNet(nn.Sequential):
    def __init__(self, node, pool: nn.Module):
        super().__init__(
            pool, layer.Conv2d(2, 6, 5, stride=2, padding=2, bias=False), layer.BatchNorm2d(6),
            node(), layer.AvgPool2d(4), layer.Conv2d(6, 8, 3, padding=1), node(),
            layer.MaxPool2d(2), layer.Flatten(), layer.Linear(8 * 4 * 4, 11))
        functional.set_step_mode(self, "m")


ENTRIES = (
    Entry("wide-128", "T = 20, 128 x 128 events, average pool on the input",
          lambda node: WideNet(node, layer.AvgPool2d(2)), (2, 128, 128), timesteps=20,
          static=False, neurons=("LIF",)),
    Entry("wide-input-max", "T = 20, max pool on the input's counts",
          lambda node: WideNet(node, layer.MaxPool2d(2)), (2, 128, 128), timesteps=20,
          static=False, neurons=("LIF",)),
)
