"""Spikeformers by name: "spikeformer-BLOCKS-WIDTH" or "spikeformer-BLOCKS-WIDTH-HEADS".

The stem halves the map until at most 8 x 8 tokens are left, with the pools last, and widens up to
WIDTH in four convolutions: 32x32 pixels and width 384 give "48-96-192p-384p", the Spikformer for
CIFAR; 128x128 give a pool behind each, the one for DVS sets. Without HEADS, heads are as wide as 32
channels if the width allows, else 16 or 8.
"""

from __future__ import annotations

from torch import Tensor

from ..errors import SpikeTicketError
from ..spikeformer import Spikeformer, SpikeformerConfig
from .config import NetConfig

GRID = 8
"""Rows and columns of tokens, at most."""


class NamedSpikeformer(Spikeformer):
    """A Spikeformer that takes event samples with more frames than T and uses the first T."""

    def over_time(self, x: Tensor) -> Tensor:
        if not self.config.static and x.dim() == 5:
            x = x[:, :self.config.timesteps]
        return super().over_time(x)


def build_spikeformer(config: NetConfig) -> NamedSpikeformer:
    """The network; its weights are drawn from torch's global generator."""
    blocks, width, heads = _numbers(config.model)
    shape = SpikeformerConfig(
        stem=stem_of(width, max(config.input[1:])), blocks=blocks, heads=heads, input=config.input,
        static=config.static, classes=config.classes, timesteps=config.timesteps, tau=config.tau,
        theta=config.theta)
    return NamedSpikeformer(shape, config.node)


def stem_of(width: int, side: int) -> str:
    """The stem for square samples of `side` pixels."""
    pools = 0
    while side >> pools > GRID:
        pools += 1
    count = max(4, pools)
    channels = [max(1, width >> (count - 1 - i)) for i in range(count)]
    return "-".join(f"{c}{'p' if i >= count - pools else ''}" for i, c in enumerate(channels))


def _numbers(model: str) -> tuple[int, int, int]:
    parts = model.split("-")[1:]
    if len(parts) not in (2, 3) or not all(p.isdecimal() and 0 < int(p) <= 4096 for p in parts):
        raise SpikeTicketError(f"model {model!r} is not spikeformer-BLOCKS-WIDTH or "
                               "spikeformer-BLOCKS-WIDTH-HEADS, e.g. spikeformer-2-96")
    blocks, width = int(parts[0]), int(parts[1])
    if len(parts) == 3:
        return blocks, width, int(parts[2])
    head = next((d for d in (32, 16, 8) if width % d == 0), 0)
    if not head:
        raise SpikeTicketError(f"model {model!r}: width {width} is not a multiple of 8; give one")
    return blocks, width, width // head

