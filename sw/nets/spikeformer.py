"""Spikeformers by name: "spikeformer-BLOCKS-WIDTH[-HEADS[-RATIO]][@STEM]".

    spikeformer-2-96                        2 blocks, 96 channels, default heads and stem
    spikeformer-2-96-6                      6 heads of 16 channels
    spikeformer-2-96-6-2                    the MLP is 2 times as wide as the tokens, not 4
    spikeformer-2-96-6@24p-48p-96-96        a stem of one's own, that pools early (cheaper)

STEM: convolutions as in `SpikeformerConfig.stem`, the last of WIDTH channels. Without it the stem
halves the map until at most 8 x 8 tokens are left, with the pools last, and widens up to WIDTH in
four convolutions: 32x32 pixels and width 384 give "48-96-192p-384p", the Spikformer for CIFAR;
128x128 give a pool behind each, the one for DVS sets. Without HEADS, heads are as wide as 32
channels if the width allows, else 16 or 8.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import SpikeTicketError
from .config import NetConfig
from .spikeformer_model import Spikeformer, SpikeformerConfig

GRID = 8
"""Rows and columns of tokens, at most, of the default stem."""

MLP_RATIO = 4


class NamedSpikeformer(Spikeformer):
    """A Spikeformer that takes event samples with more frames than T and uses the first T."""

    def over_time(self, x: Tensor) -> Tensor:
        if not self.config.static and x.dim() == 5:
            x = x[:, :self.config.timesteps]
        return super().over_time(x)


@dataclass(frozen=True)
class Name:
    """What a model's name says; `stem` None means `stem_of`."""

    blocks: int
    width: int
    heads: int
    mlp_ratio: int
    stem: str | None


def build_spikeformer(config: NetConfig) -> NamedSpikeformer:
    """The network; its weights are drawn from torch's global generator.

    Raises SpikeTicketError for a name that is not one, or that describes no Spikeformer.
    """
    name = parse(config.model)
    try:
        shape = SpikeformerConfig(
            stem=name.stem or stem_of(name.width, max(config.input[1:])), blocks=name.blocks,
            heads=name.heads, mlp_ratio=name.mlp_ratio, input=config.input,
            static=config.static, classes=config.classes, timesteps=config.timesteps,
            tau=config.tau, theta=config.theta)
    except SpikeTicketError as error:
        raise SpikeTicketError(f"model {config.model!r}: {error}") from error
    if shape.width != name.width:
        raise SpikeTicketError(f"model {config.model!r}: the stem ends with {shape.width} "
                               f"channels, the tokens have {name.width}; make them the same")
    return NamedSpikeformer(shape, config.node)


def stem_of(width: int, side: int) -> str:
    """The default stem for square samples of `side` pixels."""
    pools = 0
    while side >> pools > GRID:
        pools += 1
    count = max(4, pools)
    channels = [max(1, width >> (count - 1 - i)) for i in range(count)]
    return "-".join(f"{c}{'p' if i >= count - pools else ''}" for i, c in enumerate(channels))


def parse(model: str) -> Name:
    """The parts of a name. Raises SpikeTicketError; the stem is checked where it is built."""
    numbers, at, stem = model.partition("@")
    kind, *parts = numbers.split("-")
    if (kind != "spikeformer" or len(parts) not in (2, 3, 4) or bool(at) != bool(stem)
            or not all(p.isascii() and p.isdecimal() and 0 < int(p) <= 4096 for p in parts)):
        raise SpikeTicketError(
            f"model {model!r} is not spikeformer-BLOCKS-WIDTH[-HEADS[-RATIO]][@STEM]; give e.g. "
            "spikeformer-2-96 or spikeformer-2-96-6-4@24p-48p-96-96")
    blocks, width, *rest = map(int, parts)
    head = next((d for d in (32, 16, 8) if width % d == 0), 0)
    if not rest and not head:
        raise SpikeTicketError(f"model {model!r}: width {width} is not a multiple of 8; give heads")
    return Name(blocks, width, rest[0] if rest else width // head,
                rest[1] if len(rest) > 1 else MLP_RATIO, stem or None)
