"""Float spiking networks that tickets are searched in, by name or by their blocks."""

from __future__ import annotations

from torch import nn

from ..errors import SpikeTicketError
from .config import NetConfig
from .resnet import SpikingResNet
from .spikeformer import Spikeformer
from .vgg import VGG9, VGG16, SpikingVGG

NAMES = {
    "vgg9": lambda c: SpikingVGG(c, VGG9),
    "vgg16": lambda c: SpikingVGG(c, VGG16),
    "resnet19": SpikingResNet,
    "resnet9": lambda c: SpikingResNet(c, 16, ((1, 32), (1, 64), (1, 64)), 64),
}
"""Models by name; anything else is read as blocks (`sw.nets.blocks`)."""


def build(config: NetConfig) -> nn.Module:
    """The network of a configuration, its weights drawn from torch's global generator."""
    if config.model.startswith("spikeformer"):
        return Spikeformer(config)
    if config.model in NAMES:
        return NAMES[config.model](config)
    if not config.model[:1].isdecimal():
        raise SpikeTicketError(f"model {config.model!r} is unknown; give {', '.join(NAMES)}, "
                               "spikeformer-BLOCKS-WIDTH, or blocks such as 32p-64p-f128")
    return SpikingVGG(config)


__all__ = ["NAMES", "NetConfig", "Spikeformer", "SpikingResNet", "SpikingVGG", "build"]
