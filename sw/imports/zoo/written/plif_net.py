"""PLIF networks as their repository writes them: forward takes the image and loops over time.

Single-step modules; the static convolution is computed once, outside the loop; the number of
timesteps is an attribute; spikes of a boosted output are summed over T and divided by it.
"""

from __future__ import annotations

from spikingjelly.activation_based import layer
from torch import nn

from ..entry import Entry


class StaticNet(nn.Module):
    def __init__(self, node, steps: int = 8, classes: int = 10):
        super().__init__()
        self.T = steps
        self.static_conv = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False),
                                         nn.BatchNorm2d(8))
        conv = [node(), nn.MaxPool2d(2, 2)]
        for _ in range(1):
            conv += [nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), node(),
                     nn.MaxPool2d(2, 2)]
        self.conv = nn.Sequential(*conv)
        self.fc = nn.Sequential(nn.Flatten(), layer.Dropout(0.5),
                                nn.Linear(8 * 4 * 4, 32, bias=False), node(), layer.Dropout(0.5),
                                nn.Linear(32, classes * 2, bias=False), node())
        self.boost = nn.AvgPool1d(2, 2)

    def forward(self, x):
        x = self.static_conv(x)
        out_spikes_counter = self.boost(self.fc(self.conv(x)).unsqueeze(1)).squeeze(1)
        for _ in range(1, self.T):
            out_spikes_counter += self.boost(self.fc(self.conv(x)).unsqueeze(1)).squeeze(1)
        return out_spikes_counter / self.T


class NeuromorphicNet(nn.Module):
    """The event form: [N, T, 2, H, W] permuted, one frame after the other."""

    def __init__(self, node, classes: int = 10):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), node(), nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), node(), nn.MaxPool2d(2))
        self.fc = nn.Sequential(nn.Flatten(), nn.Linear(8 * 4 * 4, classes * 10, bias=False),
                                node())
        self.boost = nn.AvgPool1d(10, 10)

    def forward(self, x):
        x = x.permute(1, 0, 2, 3, 4)
        out_spikes_counter = self.boost(self.fc(self.conv(x[0])).unsqueeze(1)).squeeze(1)
        for t in range(1, x.shape[0]):
            out_spikes_counter += self.boost(self.fc(self.conv(x[t])).unsqueeze(1)).squeeze(1)
        return out_spikes_counter / x.shape[0]


ENTRIES = (
    Entry("plif-static", "PLIF: static convolution once, then a loop over T in forward", StaticNet,
          (1, 16, 16), timesteps=8, feed="image", neurons=("PLIF", "LIF")),
    Entry("plif-events", "PLIF: x.permute(1, 0, 2, 3, 4), then x[t] one by one", NeuromorphicNet,
          (2, 16, 16), timesteps=10, feed="batch first", static=False, neurons=("PLIF",)),
)
