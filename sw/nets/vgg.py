"""Spiking VGGs and small CNNs: a chain of blocks (`sw.nets.blocks`), then the readout.

"64-64p-128-128p-256-256p-f256-f256" is VGG-9. Without f the readout sees the mean over positions.
"""

from __future__ import annotations

import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn

from ..errors import SpikeTicketError
from .blocks import Chain
from .config import NetConfig
from .parts import ConvBlock, DenseBlock, SpikingNet

VGG9 = "64-64p-128-128p-256-256p-f256-f256"
"""With 3x32x32 pixels and 10 classes: 2,261,184 weights, as in arXiv 2311.12060."""

VGG16 = "64-64p-128-128p-256-256-256p-512-512-512p-512-512-512p"
"""As in Kim et al. 2207.01382."""


class SpikingVGG(SpikingNet):
    """The network of a chain of blocks; `blocks` gives them where `config.model` is a name."""

    def __init__(self, config: NetConfig, blocks: str | None = None):
        super().__init__(config)
        chain = Chain.of(blocks or config.model)
        try:
            height, width = chain.grid(config.input[1:])
        except SpikeTicketError as error:
            raise SpikeTicketError(f"model {config.model!r}: {error}") from error
        channels = config.input[0]
        self.convs, self.dense = nn.ModuleList(), nn.ModuleList()
        for out, pool, stride in chain.convolutions:
            self.convs.append(ConvBlock(config, channels, out, pool=pool, stride=stride))
            channels = out
        features = channels * height * width if chain.features else channels
        for out in chain.features:
            self.dense.append(DenseBlock(config, features, out))
            features = out
        self.readout = layer.Linear(features, config.classes, bias=False)
        self.to(memory_format=torch.channels_last)

    def features(self, x: Tensor) -> Tensor:
        for block in self.convs:
            x = block(x)
        if not self.dense:
            return self.mean(x, 3, 4)
        x = x.flatten(2)
        for block in self.dense:
            x = block(x)
        return self.mean(x)
